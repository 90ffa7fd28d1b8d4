# A long script: what bash does with memory. Prints the same everywhere.
set -eu
declare -A count
words=()
for i in $(seq 1 3000); do
    word="w$((i * 7919 % 997))"
    words+=("$word$i")
    count[$word]=$((${count[$word]:-0} + 1))
done
for key in $(printf '%s\n' "${!count[@]}" | sort); do
    printf '%s=%s ' "$key" "${count[$key]}"
done | cksum
text=
for word in "${words[@]}"; do
    text+="$word,"
    [ ${#text} -lt 20000 ] || text=${text:5000:7000}
done
echo "${#text} ${text:100:40} ${text//w/W}" | cksum
fib() { [ "$1" -lt 2 ] && echo "$1" || echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); }
fib 11
while IFS=, read -r a b c; do
    sum=$((${sum:-0} + a * b - c))
done < <(for i in $(seq 1 2000); do echo "$i,$((i % 13)),$((i % 7))"; done)
echo "sum $sum"
mapfile -t lines < <(seq 1 20000)
unset 'lines[7]'
echo "${#lines[@]} ${lines[*]: -3}"
for i in 1 2 3 4; do
    (
        local_text=$(printf "%${i}000s" x)
        echo "${#local_text}"
    ) &
    wait $!
done
trap 'echo trapped' USR1
kill -USR1 $$
cat <<TEXT | tr a-z A-Z | rev | cksum
$(for i in $(seq 1 500); do echo "line $i of a here document: ${words[$i]}"; done)
TEXT
case $text in *w1*) echo found ;; esac
[[ "abc123def" =~ ([a-z]+)([0-9]+)(.*) ]] && echo "${BASH_REMATCH[@]}"
eval "$(for i in $(seq 1 300); do echo "f$i() { echo $i \"\$@\"; }"; done)"
for i in $(seq 1 300); do f$i a b c; done | cksum
printf -v padded '%-200s|' "${words[@]:0:50}"
echo "${padded^^}" | cksum
exit 3
