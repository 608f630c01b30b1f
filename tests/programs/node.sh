# SPDX-License-Identifier: Apache-2.0
# node: fs by callbacks of its threads, by promises, by synchronous calls, and streams.
set -e
cat >program.js <<'END'
const fs = require('fs'), path = require('path'), os = require('os'), child = require('child_process'), stream = require('stream/promises'), zlib = require('zlib'), crypto = require('crypto');
const sum = (b) => crypto.createHash('md5').update(b).digest('hex').slice(0, 8), say = (...a) => console.log(...a), why = (f) => { try { say('done', f()); } catch (e) { say(e.code, e.syscall); } };
say(fs.readFileSync('documents/book', 'utf8').split('\n').length, fs.statSync('large').size, fs.lstatSync('link').isSymbolicLink(), fs.readdirSync('code').sort(), fs.readdirSync('.', { withFileTypes: true }).map((d) => d.name + d.isDirectory() + d.isSymbolicLink()).sort().slice(0, 4), fs.readdirSync('documents', { recursive: true }).sort());
why(() => fs.readFileSync('none')); why(() => fs.mkdirSync('code'));
why(() => fs.rmdirSync('code')); why(() => fs.openSync('large', 'wx'));
why(() => fs.readlinkSync('large')); why(() => fs.readFileSync('code'));
why(() => fs.renameSync('code', 'code/x')); why(() => fs.accessSync('script', fs.constants.X_OK));
why(() => fs.existsSync('dangling')); why(() => fs.unlinkSync('documents'));
why(() => fs.realpathSync('link') === path.resolve('documents/book'));
why(() => fs.realpathSync.native('link') === path.resolve('documents/book'));
fs.mkdirSync('a/b/c', { recursive: true }); fs.writeFileSync('a/f', 'text', { mode: 0o640 });
fs.appendFileSync('a/f', ' more'); fs.copyFileSync('a/f', 'a/g', fs.constants.COPYFILE_FICLONE);
why(() => fs.copyFileSync('a/f', 'a/g', fs.constants.COPYFILE_EXCL)); fs.linkSync('a/f', 'a/h');
fs.symlinkSync('f', 'a/s'); fs.chmodSync('a/g', 0o600); fs.utimesSync('a/g', 1000, 2000);
fs.lutimesSync('a/s', 1, 2); fs.chownSync('a/g', 1, 2); fs.truncateSync('a/h', 6);
const s = fs.statSync('a/g', { bigint: true });
say(s.mtimeNs, Number(s.mode & 511n).toString(8), s.uid, fs.statSync('a/f').nlink, fs.readFileSync('a/s', 'utf8'));
fs.cpSync('a', 'copy', { recursive: true }); say(fs.readdirSync('copy').sort());
fs.rmSync('copy', { recursive: true }); why(() => fs.rmSync('copy'));
fs.rmSync('copy', { force: true }); const t = fs.mkdtempSync('./t-'); say(t.length);
fs.rmdirSync(t); const dir = fs.opendirSync('code'); let n = 0; while (dir.readSync()) n++;
dir.closeSync(); say(n, fs.statfsSync('.').bsize > 0);
const fd = fs.openSync('raw', 'w+'); fs.writeSync(fd, Buffer.from('0123456789'), 2, 5, 3);
fs.writevSync(fd, [Buffer.from('ab'), Buffer.from('cd')]); const b = Buffer.alloc(10);
say(fs.readSync(fd, b, 0, 10, 0), b.toString('hex'), fs.readvSync(fd, [Buffer.alloc(2), Buffer.alloc(3)], 0));
fs.ftruncateSync(fd, 3); fs.fsyncSync(fd); fs.fdatasyncSync(fd); fs.fchmodSync(fd, 0o600);
fs.futimesSync(fd, 5, 6); say(fs.fstatSync(fd).size, fs.fstatSync(fd).mtimeMs); fs.closeSync(fd);
why(() => fs.fstatSync(fd));
(async () => {
  const p = fs.promises;
  await Promise.all([...Array(100).keys()].map((i) => p.writeFile(`a/n${i}`, 'x'.repeat(i * 100))));
  say((await Promise.all([...Array(100).keys()].map((i) => p.stat(`a/n${i}`)))).reduce((x, y) => x + y.size, 0));
  say((await Promise.all([...Array(100).keys()].map((i) => p.readFile(`a/n${i}`)))).map((x) => x.length).reduce((x, y) => x + y));
  await Promise.all([...Array(50).keys()].map((i) => p.unlink(`a/n${i}`)));
  await Promise.all([...Array(25).keys()].map((i) => p.rename(`a/n${i + 50}`, `a/m${i}`)));
  say((await p.readdir('a')).length);
  const h = await p.open('documents/book', 'r+');
  const { bytesRead } = await h.read(Buffer.alloc(50), 0, 50, 10); await h.write('changed', 0);
  let lines = 0; for await (const line of h.readLines({ start: 0 })) lines++; say(bytesRead, lines);
  await h.close().catch(() => {});
  for await (const d of await p.opendir('documents')) say(d.name, d.isFile());
  await p.access('none').catch((e) => say(e.code));
  say(await p.readlink('link'), (await p.lstat('link')).size); await p.rm('a', { recursive: true });
  await p.mkdir('s');
  await p.writeFile('s/lines', (async function* () { for (let i = 0; i < 5; i++) yield `${i}\n`; })());
  await stream.pipeline(fs.createReadStream('large'), zlib.createGzip(), fs.createWriteStream('s/gz'));
  await stream.pipeline(fs.createReadStream('s/gz'), zlib.createGunzip(), fs.createWriteStream('s/back'));
  say(sum(fs.readFileSync('s/back')), sum(fs.readFileSync('large')));
  await stream.pipeline(fs.createReadStream('large', { start: 100, end: 299 }), fs.createWriteStream('s/part', { flags: 'a' }));
  say(fs.statSync('s/part').size); const w = fs.createWriteStream('s/many');
  for (let i = 0; i < 20000; i++) w.write(`line ${i}\n`); await new Promise((r) => w.end(r));
  say(sum(fs.readFileSync('s/many')));
  say(child.execSync('cat s/lines; pwd | wc -c >/dev/null').toString(), child.spawnSync('./script', ['a'], { cwd: '.' }).stdout.toString());
  const out = fs.openSync('s/out', 'a');
  child.spawnSync('sh', ['-c', 'echo from child; ls none'], { stdio: ['ignore', out, 'ignore'] });
  say(fs.readFileSync('s/out', 'utf8')); process.chdir('code');
  say(path.basename(process.cwd()), fs.existsSync('main.c')); process.chdir('..');
  fs.writeFileSync('module.js', 'module.exports = 42');
  fs.writeFileSync('esm.mjs', 'export default 43'); fs.writeFileSync('package.json', '{"name": "x"}');
  say(require('./module.js'), (await import(path.resolve('esm.mjs'))).default, require('./package.json').name);
  fs.rmSync('s', { recursive: true, maxRetries: 2 });
  const { Worker } = require('worker_threads');
  await Promise.all([1, 2, 3].map((i) => new Promise((r) => new Worker(`const fs = require('fs'); for (let j = 0; j < 50; j++) fs.appendFileSync('worked', '${i}');`, { eval: true }).on('exit', r))));
  say(fs.statSync('worked').size); fs.unlinkSync('worked'); os.tmpdir();
  await p.utimes('raw', new Date(0), new Date(1000)); say((await p.stat('raw')).mtimeMs);
  await fs.promises.cp('code', 'code2', { recursive: true, preserveTimestamps: true });
  say(fs.statSync('code2/main.c').mtimeMs);
  fs.watchFile('raw', { interval: 50 }, () => { fs.unwatchFile('raw'); say('changed'); });
  setTimeout(() => fs.writeFileSync('raw', 'longer than before'), 200);
})();
END
node program.js; node -e 'process.stdin.pipe(process.stdout)' <documents/old/list >through; cat through
node -p 'require("fs").readFileSync(0, "utf8").length' <documents/book
node -e 'require("fs").writeSync(1, "sync\n"); console.error("e")' >o 2>e; cat o e; node --check program.js
node module.js; node esm.mjs
# libuv with io_uring, where it may.
UV_USE_IO_URING=1 node -e 'const p = require("fs").promises; p.writeFile("ring", "x").then(() => p.readFile("documents/old/list")).then((b) => p.stat("large").then((s) => console.log(b.length, s.size)))'
