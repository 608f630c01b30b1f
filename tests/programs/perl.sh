# SPDX-License-Identifier: Apache-2.0
# perl: its file functions, File::Find, File::Copy, File::Temp, Fcntl, tie with DB_File and SDBM_File, Storable, IO::*.
set -e
cat >program.pl <<'END'
use strict; use warnings; use Fcntl qw(:DEFAULT :flock :seek :mode); use Cwd; use POSIX ();
use File::Find; use File::Copy; use File::Path; use File::Temp; use File::Basename; use File::Spec;
use File::stat (); use File::Compare; use IO::File; use IO::Dir; use IO::Select; use Storable;
sub why { printf "%s: %s\n", $_[0], $_[1] ? 'done' : $! + 0 }
my @found;
find({wanted => sub { push @found, "$File::Find::name " . (-d $_ ? 'd' : -l $_ ? 'l' : -s _) }, no_chdir => 1}, 'documents', 'code');
print join("\n", sort @found), "\n";
finddepth(sub { push @found, getcwd() =~ s|.*/||r }, 'code'); find({wanted => sub { }, follow => 1}, '.'); print scalar(@found), "\n";
why 'copy', copy('documents/book', 'copied'); why 'copy into', copy('script', 'empty');
why 'move', move('copied', 'empty/moved'); why 'none', copy('none', 'x');
why 'cp', File::Copy::cp('script', 'script2'); printf "%o\n", (stat 'script2')[2];
print compare('documents/book', 'empty/moved'), "\n";
print join(',', File::Path::make_path('a/b/c', 'a/d', {mode => 0700})), "\n";
print File::Path::remove_tree('a', 'many/file9'), "\n";
my ($fh, $name) = File::Temp::tempfile(DIR => '.', UNLINK => 1); print $fh "x\n"; close $fh;
print -s $name, "\n"; my $td = File::Temp->newdir(DIR => '.'); print -d "$td" ? "dir\n" : "none\n";
my @s = stat 'documents/book'; print "@s[2,3,7,9]\n"; my $s = File::stat::lstat('link');
print S_ISLNK($s->mode), ' ', $s->size, "\n";
print join(' ', map { eval "-$_ 'large'" ? $_ : '-' } qw(r w x o R W X O e z s f d l p S b c t u g k T B)), "\n";
printf "%.0f\n", -M 'large' > 1000;
open my $f, '+<', 'documents/book' or die; print scalar <$f>; print tell $f, "\n";
seek $f, -10, SEEK_END; read $f, my $tail, 100; print $tail; sysseek $f, 5, SEEK_SET;
sysread $f, my $some, 3, 2; print unpack('H*', $some), "\n";
why 'flock', flock($f, LOCK_EX | LOCK_NB); truncate $f, 4000; print -s $f, "\n"; my @lines = <$f>;
print scalar(@lines), " $.\n"; print eof $f ? "eof\n" : "more\n"; close $f;
open my $d, '<', 'documents/book'; open my $e, '<&', $d; open my $g, '<&=', fileno $d; my $l = <$d>;
sysread $e, $some, 4; print length $some, "\n"; close $_ for $d, $e;
{ local $/ = \100; open $d, '<', 'large'; my $n = 0; $n++ while <$d>; print "$n\n"; close $d }
open my $o, '>>', 'appended'; syswrite $o, "one\n"; $o->autoflush(1); print $o "two\n"; printf $o "%s\n", 'three'; say {*STDOUT} $o->tell if 0; print -s 'appended', "\n"; $o->sync; close $o; sysopen my $x, 'appended', O_WRONLY | O_CREAT | O_EXCL or print 'excl: ', $! + 0, "\n"; open my $u, '>:utf8', 'utf8'; print $u "\x{263a}\n"; close $u; open $u, '<:encoding(UTF-8)', 'utf8'; print length(<$u>), "\n"; open my $m, '<', \'in memory'; print <$m>, "\n";
opendir my $dir, 'code' or die; my @names; while (my $n = readdir $dir) { push @names, $n } print join(' ', sort @names), "\n"; my $at = telldir $dir; rewinddir $dir; print scalar(my @again = readdir $dir), "\n"; seekdir $dir, $at; chdir $dir; print getcwd() =~ s|.*/||r, "\n"; closedir $dir; chdir '..'; why 'opendir', opendir($dir, 'large'); print join(' ', sort glob('code/*.{c,h} many/file10*')), "\n"; tie my %h, 'IO::Dir', 'documents'; print join(' ', sort keys %h), "\n"; untie %h;
why 'mkdir', mkdir('new', 0750); why 'mkdir', mkdir('new'); why 'rename', rename('new', 'newer');
why 'rename', rename('newer', 'large'); why 'rmdir', rmdir('documents');
why 'rmdir', rmdir('newer'); why 'link', link('large', 'hard');
why 'symlink', symlink('large', 'soft'); print readlink('soft'), "\n";
why 'readlink', readlink('large'); print unlink('soft', 'hard', 'none'), "\n";
print chmod(0640, 'script', 'none'), chown(1, 2, 'script'), utime(1000, 2000, 'script'), "\n";
printf "%o %d %d %d %d\n", (stat 'script')[2, 4, 5, 8, 9]; utime undef, undef, 'script'; umask 027;
open $f, '>', 'masked'; printf "%o\n", (stat $f)[2]; why 'utime', utime(5, 6, $f);
print +(stat 'masked')[9], "\n"; chmod 0600, $f; printf "%o\n", (stat 'masked')[2];
for my $type ('DB_File', 'SDBM_File', 'GDBM_File') { eval "require $type; 1" or do { print "no $type\n" if $type eq 'SDBM_File'; next }; my %t; my $mode = $type eq 'GDBM_File' ? eval 'GDBM_File::GDBM_NEWDB()|GDBM_File::GDBM_NOMMAP()' : O_RDWR | O_CREAT; tie %t, $type, "db_$type", $mode, 0640 or do { print "$type: $!\n"; next }; $t{"key $_"} = 'value' x ($_ % 9) for 1 .. 500; delete $t{'key 7'}; untie %t; tie %t, $type, "db_$type", $type eq 'GDBM_File' ? eval 'GDBM_File::GDBM_READER()|GDBM_File::GDBM_NOMMAP()' : O_RDONLY, 0640 or die "$type $!"; print STDERR "$type\n"; print scalar(keys %t), " $t{'key 8'}\n"; untie %t; unlink glob "db_$type*" }
store {a => [1, 2, 3]}, 'stored'; print "@{retrieve('stored')->{a}}\n";
Storable::lock_nstore([4], 'stored'); print Storable::lock_retrieve('stored')->[0], "\n";
my $pid = open my $p, '-|';
if (!$pid) { open STDIN, '<', 'documents/old/list'; exec 'cat' } print <$p>; close $p;
open $p, '|-', 'cat >piped'; print $p "to child\n"; close $p; print `cat piped; echo \$?`;
open my $save, '>&', \*STDOUT; open STDOUT, '>', 'redirected'; $| = 1; print "inside\n";
system 'echo from child'; open STDOUT, '>&', $save; print `cat redirected`;
system 'true' and print "bad\n"; print POSIX::access('script', POSIX::X_OK()) ? "x\n" : "no x\n";
my ($r, $w) = POSIX::pipe(); my $fd = POSIX::open('large', O_RDONLY);
my $dup = POSIX::dup2($fd, 20);
print POSIX::lseek(20, 100, SEEK_SET), ' ', POSIX::lseek($fd, 0, SEEK_CUR), "\n";
print fcntl(STDOUT, F_GETFL, 0) ? "flags\n" : "none\n"; pipe my $pr, my $pw; print "done\n";
-e '/proc/self/fd/20' or print "closed\n"; my @st = stat '/proc/self/fd/20'; print "$st[7]\n";
END
perl program.pl 2>&1; perl -i.orig -ne 'print if /1/' documents/book; wc -l documents/book*
perl -0777 -pe 's/\n/,/g' documents/old/list; echo; mkdir lib
echo 'package Ours; sub hello { print "hello\n" } 1;' >lib/Ours.pm; perl -Ilib -MOurs -e 'Ours::hello'
perl -e 'do "./documents/old/list"; require "./lib/Ours.pm"; print "$INC{q(./lib/Ours.pm)}\n"'
perl -E 'say -s for <many/file1*>' | sort | uniq -c
rm -f stored utf8
