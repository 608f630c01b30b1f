# SPDX-License-Identifier: Apache-2.0
# A repository is made, changed, cloned and checked.
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE='2001-01-01T00:00:00Z' GIT_COMMITTER_DATE='2001-01-01T00:00:00Z'
git init -q -b main .; git add -A; git commit -qm first; git rev-parse HEAD; git status --short
echo change >>documents/book; git rm -q many/file1; git mv script moved; git status --short; git diff | head -20
git commit -qam second; git log --oneline; git checkout -qb side HEAD~1; echo side >side; git add side; git commit -qm side
git checkout -q main; git merge -q -m merged side; git log --format=%s | sort; git fsck 2>/dev/null; git gc -q; git count-objects
git clone -q . ../"$(basename "$PWD")"/clone; cd clone; git log --oneline | wc -l; ls; git fsck 2>/dev/null; cd ..
git stash list; echo lost >>moved; git stash -q; git stash pop -q; git diff --stat; git reset -q --hard; git grep -n 42; git worktree list | wc -l
