# A repository generated, changed, packed and checked. Prints the same everywhere.
set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$PWD
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.com
git init -q -b main repository
cd repository
git config pack.threads 2
git config gc.auto 0
for i in $(seq 1 25); do
    for f in $(seq 1 12); do
        seq $((i * f)) $((i * f + 400 + f * i % 7)) >"file$f"
    done
    [ $((i % 5)) -ne 0 ] || { mkdir -p "dir$i" && cp file* "dir$i"; }
    export GIT_AUTHOR_DATE="$((1700000000 + i * 60)) +0000"
    export GIT_COMMITTER_DATE="$((1700000000 + i * 60)) +0000"
    git add -A
    git commit -q -m "commit $i"
    [ $((i % 8)) -ne 0 ] || git branch "branch$i"
done
git checkout -q branch8
echo new >new
git add new
git commit -q -m side
git merge -q -m merge main
git rev-parse HEAD
git log -p --stat | cksum
git log --oneline --graph --all
git diff branch8~1 main | cksum
git blame file3 | cksum
git grep -c 100 | cksum
git gc -q --aggressive
git fsck --full --strict 2>&1
git repack -adfq --depth=50 --window=50
git clone -q . ../clone
cd ../clone
git fsck --full 2>&1
git rev-list --objects --all | sort | cksum
git archive HEAD | cksum
