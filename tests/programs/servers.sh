# SPDX-License-Identifier: Apache-2.0
# nginx and lighttpd serve, and curl fetches: whole, parts, listings, what does not exist, what is replaced meanwhile.
set -e
away=$(mktemp -d /tmp/libservices-programs.XXXXXX); trap 'rm -rf "$away"' EXIT; chmod 755 .
mkdir site logs; cp -r documents code link large site; head -c 5000000 /dev/zero | tr '\0' y >site/huge
echo '<h1>index</h1>' >site/index.html; chmod -R a+rX site; chmod 600 site/code/main.c
get() { curl -s --max-time 20 --unix-socket "$away/socket" "http://host$1" "${@:2}" || echo "status $?"; }
wait_for() { for i in {1..200}; do curl -s -o /dev/null --unix-socket "$away/socket" http://host/ && return; sleep 0.05; done; }
fetch() {
get /; get /documents/book | cmp - documents/book; get /large | cmp - large; get /huge | md5sum
get /link | md5sum; get /large -r 100-199 | wc -c; get /documents/book -r -20
get /documents/book -r 0-9,50-59 | grep -c '^line'; get /nothing -o /dev/null -w '%{http_code}\n'
get /code/main.c -o /dev/null -w '%{http_code}\n'; get /documents -o /dev/null -w '%{http_code}\n'
get /documents/ | grep -c book; get /documents/old/list -I | grep -iE '^content-length' | tr -d '\r'
get /documents/book -z site/documents/book -o /dev/null -w '%{http_code}\n'
for i in $(seq 20); do get /huge -o "$away/$i" & done; wait $(jobs -p | grep -v "^$server$")
for i in $(seq 20); do cmp "$away/$i" site/huge; done; echo new >site/index.html; get /
mv site/huge site/renamed; get /huge -o /dev/null -w '%{http_code}\n'; get /renamed | wc -c
mv site/renamed site/huge; truncate -s 100 site/large; get /large | wc -c; cp large site/large
echo '<h1>index</h1>' >site/index.html
}
cat >nginx.conf <<END
daemon off; pid $away/pid; error_log $PWD/logs/error.log warn; worker_processes 2; user root;
events { worker_connections 64; }
http { sendfile on; tcp_nopush on; aio threads; access_log $PWD/logs/access.log; client_body_temp_path $PWD/logs/body; proxy_temp_path $away/p; fastcgi_temp_path $away/f; uwsgi_temp_path $away/u; scgi_temp_path $away/s; open_file_cache off;
  server { listen unix:$away/socket; root $PWD/site; autoindex on; location /private { deny all; } } }
END
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>"$away/err" & server=$!; wait_for; fetch
mv logs/access.log logs/old.log; kill -USR1 $server
for i in {1..200}; do [ -e logs/access.log ] && break; sleep 0.05; done; sleep 0.5; get / >/dev/null
sed -i 's/aio threads/aio off/; s/sendfile on/sendfile off/' nginx.conf; kill -HUP $server; sleep 0.5
get /huge | md5sum; kill -QUIT $server; wait $server || true; cat "$away/err"
grep -vE 'forbidden|No such file|Permission' logs/error.log || true; ls logs; wc -l logs/access.log
rm -f "$away/socket"; mkdir upload
for backend in sendfile writev; do
  cat >lighttpd.conf <<END
server.document-root = "$PWD/site"
server.bind = "$away/socket"
server.network-backend = "$backend"
server.modules = ("mod_accesslog", "mod_dirlisting")
dir-listing.activate = "enable"
index-file.names = ("index.html")
accesslog.filename = "$PWD/logs/lighttpd.log"
server.errorlog = "$PWD/logs/lighttpd.error"
server.stat-cache-engine = "disable"
server.upload-dirs = ("$PWD/upload")
mimetype.assign = ("" => "application/octet-stream")
END
  lighttpd -D -f lighttpd.conf 2>"$away/err" & server=$!; wait_for; fetch; kill $server; wait $server || true; cat "$away/err"; rm -f "$away/socket"
done; grep -vE 'server (started|stopped)|graceful' logs/lighttpd.error || true; rm -rf logs upload site/code nginx.conf lighttpd.conf
