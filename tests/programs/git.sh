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
set +e
# Worktrees, rebase, cherry-pick, bisect, notes, submodule-less clones of every kind, packs, reflogs, hooks, archives, patches.
git worktree add -q ../"$(basename "$PWD")"/tree side
(cd tree && echo in a tree >tree && git add tree && git commit -qm tree && git status -sb)
git worktree list | wc -l; git worktree move tree tree2; git worktree remove tree2; git branch -v | cut -c1-20
git checkout -q -b topic main~1
for i in 1 2 3; do echo "$i" >topic$i; git add topic$i; git commit -qm "topic $i"; done; git rebase -q main
git log --oneline | wc -l
GIT_SEQUENCE_EDITOR='sed -i 2s/pick/squash/' GIT_EDITOR=true git rebase -q -i HEAD~3
git log --format=%s | head -3; git checkout -q main; git cherry-pick topic >/dev/null
git revert --no-edit HEAD >/dev/null; git log --format=%s | head -2
echo conflict >documents/old/list; git commit -qam ours; git checkout -qb theirs HEAD~1
echo other >documents/old/list; git commit -qam theirs; git merge main >/dev/null || git status --short
git checkout --ours documents/old/list; git add -A; git commit -qm solved; git rerere; git checkout -q main
git merge -q --ff-only theirs; git tag -a -m t v1; git describe
git stash list; echo s1 >>moved; git stash -q; echo s2 >>moved; git add moved; git stash push -q -m two
git stash list; git stash apply -q stash@{1}; git checkout -q -- moved; git stash drop -q; git stash clear
git stash list | wc -l; git clean -ndx; touch junk; git clean -fdq; test ! -e junk
git gc -q --prune=now --aggressive; git count-objects -v | grep -E 'count|packs|garbage'; git repack -adfq
git prune; git fsck --strict 2>&1; git clone -q --bare . bare.git; git clone -q --shared . shared
git clone -q --depth 1 "file://$PWD" shallow; git clone -q --local --no-hardlinks . local
git clone -q --mirror bare.git mirror.git
for c in shared shallow local; do (cd $c && git log --oneline | wc -l && git fsck 2>&1 && git status --short); done
(cd local; echo pushed >pushed; git add pushed; git commit -qm pushed; git push -q ../bare.git HEAD:pushed; git fetch -q ../shared; git remote add bare ../bare.git; git fetch -q bare; git branch -r; git pull -q --rebase bare pushed; git log --format=%s | head -1)
git --git-dir=bare.git log --format=%s pushed | head -1; git bundle create -q all.bundle --all
git bundle verify -q all.bundle; git clone -q all.bundle frombundle -b main; git archive main code | tar t
git format-patch -q -1 refs/heads/topic -o patches; ls patches; git apply --stat patches/* | tail -1
git bisect start main main~3 >/dev/null; git bisect run sh -c 'test ! -e pushed' >/dev/null
git bisect reset 2>/dev/null; printf '#!/bin/sh\necho hook\n' >.git/hooks/pre-commit
chmod +x .git/hooks/pre-commit; git commit -q --allow-empty -m hooked 2>&1; git config core.fsync all
git config user.x y; git config --get user.x; git notes add -m note; git notes show
git update-index --index-version 4; git update-index --split-index; git status --short | sort
git reflog | wc -l; git sparse-checkout set code; ls; git sparse-checkout disable; git ls-files -s | wc -l
git hash-object -w large; git cat-file -p main:code/answer.c; git log -p --stat -S reply --oneline | wc -l
git blame -s documents/book | tail -1; git mv code sources; git commit -qm renamed
git log --follow --oneline sources/main.c | wc -l; git show --stat --format= -M | tail -1
git commit-graph write --reachable; git multi-pack-index write; git multi-pack-index verify
git maintenance run -q; git fsck 2>&1
rm -rf shared shallow local mirror.git bare.git frombundle all.bundle
