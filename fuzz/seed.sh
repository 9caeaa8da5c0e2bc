#!/bin/sh
# Fills fuzz/corpus from tests/data: every captured message alone and every capture as a stream, a transaction of
# wal2json's, what a directory of format 1 says of tables, one client message of each kind, tokens and keys,
# predicates with their parameters and a row, and the configuration file of the documentation. Needs xxd.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/decode corpus/wal2json corpus/tables corpus/client corpus/token corpus/predicate corpus/configuration

for capture in ../tests/data/pgoutput/*.messages; do
    name=$(basename "$capture" .messages)
    stream=
    n=0
    while read -r _ _ hex; do
        n=$((n + 1))
        printf %s "$hex" | xxd -r -p > "corpus/decode/$name-$n"
        stream=$stream$(printf %04x $((${#hex} / 2)))$hex
    done < "$capture"
    printf %s "$stream" | xxd -r -p > "corpus/decode/$name"
done

cat > corpus/wal2json/transaction <<'MESSAGES'
{"action":"B","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/150DFF0","nextlsn":"0/150E0D0"}
{"action":"I","schema":"public","table":"plai","columns":[{"name":"id","typeoid":23,"value":1},{"name":"v","typeoid":25,"value":"a\"\u00e9"},{"name":"g","typeoid":23,"value":2}]}
{"action":"U","schema":"public","table":"plai","columns":[{"name":"id","typeoid":23,"value":2}],"identity":[{"name":"id","typeoid":23,"value":1}]}
{"action":"U","schema":"public","table":"full0","columns":[{"name":"id","typeoid":23,"value":2},{"name":"v","typeoid":16,"value":true}],"identity":[{"name":"id","typeoid":23,"value":1},{"name":"v","typeoid":16,"value":null}]}
{"action":"D","schema":"public","table":"plai","identity":[{"name":"id","typeoid":23,"value":1}]}
{"action":"T","schema":"public","table":"index0"}
{"action":"M","xid":null,"timestamp":null,"lsn":"0/152DEB8","transactional":false,"prefix":"p","content":"non"}
{"action":"C","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/150DFF0","nextlsn":"0/150E0D0"}
MESSAGES

# Each line as a record after its length: a kind, numbers (a position stands for all), and what is JSON in it, too.
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
tar -xzf ../tests/data/journals/before-0.1.0/directory.tar.gz -C "$old" tables.jsonl columns.jsonl
tables() {
    hex=$(printf %s "$2" | xxd -p | tr -d '\n')
    record=$1$hex
    printf %04x%s $((${#record} / 2)) "$record"
}
{
    while IFS= read -r line; do
        name=${line#*'"table":'}
        tables 08074000000010c51a0000000000 "${name%%'}'*}}"
    done < "$old/tables.jsonl"
    while IFS= read -r line; do
        relation=${line#*'"relation":'}
        tables 070010c51a0000000000050000 "${relation%'}'}"
    done < "$old/columns.jsonl"
} | xxd -r -p > corpus/tables/old

n=0
while IFS= read -r message; do
    n=$((n + 1))
    printf %s "$message" > "corpus/client/$n"
done <<'MESSAGES'
{"type":"auth","token":"e30.e30.x"}
{"type":"subscribe","id":"a","table":"orders"}
{"type":"subscribe","id":"b","table":"\"We\"\"ird S\".\"T\"","where":"a = $1","params":[1.50,"x",null,[true]],"columns":["id"],"ops":["insert","update","delete","truncate"],"old":true,"from":"16/B374D848:17","epoch":"e1","undecided":"send"}
{"type":"subscribe","id":"c","table":"s.t","snapshot":true}
{"type":"subscribe","id":"d","table":"s.t","from":"earliest"}
{"type":"unsubscribe","id":"a"}
{"type":"ping","ref":{"a":[1,-2.5e3,"\u00e9\\",null]}}
MESSAGES

cp ../tests/data/tokens/*.pub.pem corpus/token
printf '%s\n%s' '{"alg":"HS256","typ":"JWT","kid":"a"}' \
    '{"sub":"ann","aud":["walcast"],"iss":"x","exp":1800000060,"nbf":1.5,"iat":1,"app":{"role":"r"}}' > corpus/token/claims
printf %s '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}' \
    > corpus/token/keys

n=0
while IFS='|' read -r predicate parameters row; do
    n=$((n + 1))
    printf '%s\0%s\0%s' "$predicate" "$parameters" "$row" > "corpus/predicate/$n"
done <<'PREDICATES'
id = $1 AND n BETWEEN 1.5 AND $2 OR NOT ok|[7, "2"]|7
t LIKE 'a!%%' ESCAPE '!' OR c IN ('A', $1) OR c IS DISTINCT FROM t|["x"]|-
(j ->> 'k')::int > 5 AND d @> '{"a": [1]}' AND d #>> '{a,0}' = '1'|[]|1
'x' = ANY (tags) OR ids && $1 OR lower(t) COLLATE "C" < 'b'|[[1, 2]]|~
coalesce(id, 0) * 2 % 3 = 1 IS NOT TRUE AND at > timestamptz '2024-01-01'|[]|2
PREDICATES

sed -n '/^```toml$/,/^```$/p' ../docs/configuration.md | sed '/^```/d' > corpus/configuration/documented
