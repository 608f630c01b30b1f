# SPDX-License-Identifier: Apache-2.0
# python3: os.walk, shutil, subprocess, tempfile, mmap, pathlib.
set -e
python3 - <<'END'
import fcntl, glob, mmap, os, pathlib, shutil, stat, subprocess, tempfile
for root, directories, files in os.walk('.'):
    directories.sort()
    print(root, directories, len(files))
print(sorted(glob.glob('**/*.c', recursive=True)), os.path.realpath('link') == os.getcwd() + '/documents/book')
shutil.copytree('documents', 'copy', symlinks=True); shutil.copy2('script', 'script2'); shutil.move('script2', 'copy')
print(oct(os.stat('copy/script2').st_mode), os.stat('copy/script2').st_mtime)
shutil.rmtree('many'); shutil.make_archive('packed', 'gztar', 'code'); shutil.unpack_archive('packed.tar.gz', 'unpacked')
os.unlink('packed.tar.gz'); print(sorted(os.listdir('unpacked')))
with tempfile.NamedTemporaryFile(dir='.') as t, tempfile.TemporaryFile(dir='.') as u:
    t.write(b'x' * 100000); t.flush(); print(os.path.getsize(t.name)); u.write(b'y'); u.seek(0); print(u.read())
with tempfile.TemporaryDirectory(dir='.') as d:
    pathlib.Path(d, 'p').write_text('text'); print(pathlib.Path(d, 'p').read_text())
print(subprocess.check_output(['sh', '-c', 'pwd | wc -l; cat'], stdin=open('documents/old/list')))
subprocess.check_call(['cat', 'script'], stdout=open('out', 'w')); print(open('out').read() == open('script').read())
print(subprocess.run(['./script', 'a'], capture_output=True).stdout, subprocess.run('ls nothing', shell=True, stderr=subprocess.DEVNULL).returncode)
with open('documents/book', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE); print(m[:6], len(m)); m.close()
    fcntl.lockf(f, fcntl.LOCK_EX); f.seek(5); f.write(b'-'); f.truncate(500)
    child = os.fork()
    if child == 0:
        os.lseek(f.fileno(), 7, 0); os._exit(0)
    os.waitpid(child, 0); print(os.lseek(f.fileno(), 0, 1))
d = os.open('code', os.O_RDONLY)
print(os.stat('main.c', dir_fd=d).st_size, sorted(os.listdir(d)), stat.S_ISDIR(os.fstat(d).st_mode))
os.rename('main.c', 'start.c', src_dir_fd=d, dst_dir_fd=d); os.fchdir(d); print(os.path.basename(os.getcwd()))
for call in (lambda: open('none'), lambda: os.rmdir('..'), lambda: os.mkdir('include'), lambda: open('include', 'w'),
             lambda: os.read(os.open('start.c', os.O_WRONLY), 1), lambda: os.listdir('start.c'), lambda: os.link('none', 'n')):
    try:
        call()
    except OSError as e:
        print(e.errno)
END
# A module of machine code, imported from here: the first of these that is a file.
python3 - <<'END'
import importlib.machinery, importlib.util, os, shutil, sys
for name in ('_bz2', '_json', '_csv', '_lzma', '_queue', '_heapq'):
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.has_location and isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
        break
else:
    sys.exit('no module of machine code to try')
os.mkdir('modules')
shutil.copy(spec.origin, 'modules')
sys.path.insert(0, os.path.abspath('modules'))
module = importlib.import_module(name)
print(name, os.path.dirname(module.__file__) == os.path.abspath('modules'), len(dir(module)) > 5)
shutil.rmtree('modules')
END
