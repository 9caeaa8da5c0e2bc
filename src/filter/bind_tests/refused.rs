//! Refusals, and their words.

use super::*;

#[test]
fn what_the_documentation_calls_refused_is() {
    let long = format!("name LIKE '{}'", "x".repeat(1_001));
    for text in [
        "fixed = name",
        "fixed = 'x'::text",
        "hour = '12:00'::timetz",
        "name = E'x'",
        "name = U&'x'",
        "name = $$x$$",
        "n = '1.25'::numeric(4,1)",
        "name = CAST('abc' AS varchar(2))",
        "(id = 1) = true",
        "id BETWEEN SYMMETRIC 2 AND 1",
        "hour = '12'",
        "other = 'x'",
        "name ILIKE 'x'",
        "doc ->> 'a' ILIKE 'x'",
        "unasked = 'x'",
        "unasked = unasked",
        "unasked IN ('x', 'y')",
        "'x' = ANY (nicks) AND unasked <> 'x'",
        "unasked IS DISTINCT FROM 'x'",
        "unasked LIKE 'x'",
        "nick = fixed",
        "nick = 'x'::citext",
        "name::citext = 'x'",
        "name < 'x'",
        "fold LIKE 'x'",
        "clock_timestamp() > at",
        "at > now() - 7",
        "at + interval '1 day' > now()",
        "now() - at < '1 day'",
        "date_trunc('day', at) = at",
        "date_trunc('century', now()) = at",
        "current_timestamp(3) > at",
        "now() AT TIME ZONE 'UTC' > at",
        "n + 1 = 2",
        "id + 1.5 = 2",
        "- n = 2",
        "at + '1 day' > at",
        "length(name) = 2",
        "name SIMILAR TO 'x'",
        "name ~ 'x'",
        "name COLLATE \"de_DE\" < 'x'",
        "'x' COLLATE \"C\" < name",
        "fold = code",
        "library < 'x'",
        "at AT TIME ZONE 'UTC' = at",
        "id = ALL ('{1}')",
        "tags = ARRAY[name]",
        "tags = ARRAY[]",
        "tags[1] = 'x'",
        "f4::numeric = 1",
        "(doc -> 'n')::uuid IS NULL",
        "doc::jsonb::date IS NULL",
        "coalesce(nick, 'x') = 'x'",
        "coalesce(tags, '{}') = '{}'",
        "lower(name) = 'x'",
        "at::text = 'x'",
        "doc < '1'",
        "doc -> 'n' > '1'",
        "doc ?| '{a}'",
        "doc ?& '{a}'",
        "doc @? '$'",
        "doc @@ '$'",
        "doc -> name = '1'",
        "name LIKE code",
        "name LIKE 'x\\'",
        "name LIKE 'x' ESCAPE 'ab'",
        "pair IS NULL",
        &long,
    ] {
        assert!(bind(text, &[]).is_err(), "{text}");
    }
    for text in [
        "fixed = 'x'",
        "hour = '12:30:00'",
        "other IS NULL",
        "pair IS NOT DISTINCT FROM NULL",
        "(id = 1) IS TRUE",
        "code ILIKE 'x'",
        "nick = 'x' AND nick < 'x' AND nick LIKE 'x' AND nick IN ('x', 'y') AND 'x' = ANY (nicks) AND nicks @> '{x}'",
        "nick = name AND nick::text = 'x' AND nick = 'x'::text",
        "unasked IS NULL AND unasked::text = 'x' AND unasked = name",
        "code < 'x'",
        "name LIKE 'x'",
        "'a' = ANY (tags)",
        "'a' <> ANY (tags)",
        "id = ANY ('{1,2}'::int[])",
        "tags @> '{x}' AND tags <@ '{x}' AND tags && '{x}' AND tags <> '{x}'",
        "doc -> 'a' -> 0 #> '{a,0}' ->> 'b' LIKE 'x%'",
        "doc #>> '{a,0}' IS NULL",
        "doc -> 'n' = '5' AND doc @> '{}' AND '{}' <@ doc AND doc ? 'key' AND doc <> '1'",
        "id::bigint = 1 AND id::numeric = 1 AND id::real = 1 AND id::float8 = 1 AND f4::float8 = 1",
        "id::text = '1' AND n::text = '1' AND state::text = 'ok' AND doc::text = '1' AND fixed::text = 'x'",
        "state < 'ok'",
    ] {
        assert!(bind(text, &[]).is_ok(), "{text}: {:?}", bind(text, &[]));
    }
}

#[test]
fn what_postgres_or_we_cannot_type_is_refused_with_its_place() {
    for (text, place, message) in [
        (
            "id = 'abc'",
            "'abc'",
            "invalid input syntax for type integer: \"abc\"",
        ),
        (
            "\"on\" AND id = name",
            "id",
            "values of type integer and text cannot be compared: to compare a text as a number cast it, (…)::numeric",
        ),
        (
            "\"on\" = 1",
            "\"on\"",
            "values of type boolean and integer cannot be compared",
        ),
        ("id AND \"on\"", "id", "a condition must be boolean, not integer"),
        ("doc = '{'", "'{'", "invalid input syntax for type jsonb: \"{\""),
        (
            "state = 'new'",
            "'new'",
            "invalid input syntax for type enum: \"new\"; its labels are 'sad', 'ok', 'happy'",
        ),
        (
            "name ILIKE 'X%'",
            "name",
            "ILIKE on \"name\", whose collation folds letters in a way that is known to the server alone, is not supported \
             in a predicate",
        ),
        (
            "unasked LIKE 'x'",
            "unasked",
            "LIKE on \"unasked\", whose collation folds letters in a way that is known to the server alone, is not \
             supported in a predicate",
        ),
        (
            "unasked = 'x'",
            "'x'",
            "comparing citext is not supported in this database: how its collation folds letters is known to the server \
             alone",
        ),
        (
            "fold LIKE 'x'",
            "fold",
            "LIKE on \"fold\", whose collation is nondeterministic, is not supported in a predicate: with \"fold\" COLLATE \"C\" \
             its bytes count",
        ),
        ("id LIKE '1'", "id", "LIKE needs a text, not integer"),
        (
            "name LIKE code",
            "code",
            "a pattern that is not a constant is not supported in a predicate",
        ),
        (
            "name LIKE 'x' ESCAPE 'yy'",
            "'yy'",
            "ESCAPE with more than one character is not supported in a predicate",
        ),
        (
            "name LIKE 'x\\'",
            "'x\\'",
            "a pattern that ends in its escape character is not supported in a predicate",
        ),
        (
            "f4::numeric = 1",
            "f4::numeric",
            "a cast of real to numeric is not supported in a predicate",
        ),
        (
            "id + n = 1",
            "id",
            "the operator + on integer and numeric (integers alone have it here) is not supported in a predicate",
        ),
        ("id / 0 = 1 - 1 / 0", "1 / 0", "division by zero"),
        ("id = 2147483647 * 2", "2147483647", "integer out of range"),
        ("id = - '1'", "'1'", "operator is not unique: - unknown"),
        (
            "lower(id) = 'x'",
            "id",
            "the function lower needs a text, not integer: cast it to text",
        ),
        ("lower(code, code) = 'x'", "lower", "lower takes one argument"),
        (
            "coalesce(id, name) = 1",
            "coalesce",
            "COALESCE types integer and text cannot be matched",
        ),
        (
            "coalesce(name, code) = 'x'",
            "code",
            "coalesce of texts of different collations is not supported in a predicate",
        ),
        (
            "doc < doc",
            "doc",
            "ordering jsonb is not supported in a predicate",
        ),
        (
            "doc -> name = '1'",
            "name",
            "a key that is not a constant is not supported in a predicate",
        ),
        ("id -> 'x' IS NULL", "id", "a value of type integer has no parts"),
        (
            "doc ->> 'x' < '1'",
            "doc",
            "ordering \"doc\" is not supported in a predicate: the order of its collation is known to the server alone, unlike that \
             of \"C\", \"POSIX\", ucs_basic, pg_c_utf8, pg_unicode_fast and of C.UTF-8 on most systems; to order by code points \
             write (…) COLLATE \"C\"",
        ),
        (
            "other @> '{}'",
            "other",
            "the operator @> on other is not supported in a predicate",
        ),
        ("tags = ANY (id)", "id", "ANY needs an array, not integer"),
        (
            "tags @> '{a'",
            "'{a'",
            "\"{a\" is not the plain form of this array: write it like '{1,2,NULL}'",
        ),
        (
            "1 = ANY (tags)",
            "1",
            "values of type integer and array cannot be compared",
        ),
        (
            "name < 'x'",
            "name",
            "ordering \"name\" is not supported in a predicate: the order of its collation is known to the server alone, unlike that \
             of \"C\", \"POSIX\", ucs_basic, pg_c_utf8, pg_unicode_fast and of C.UTF-8 on most systems; to order by code points \
             write \"name\" COLLATE \"C\"",
        ),
        (
            "id COLLATE \"C\" < 1",
            "id",
            "collations are not supported by type integer",
        ),
        (
            "doc ->> 'x' COLLATE \"C\" < '1'",
            "'x'",
            "COLLATE of a constant (write it behind the column, and a part in parentheses: (data ->> 'key') COLLATE \"C\") is \
             not supported in a predicate",
        ),
        (
            "fold = 'x'",
            "fold",
            "comparing \"fold\", whose collation is nondeterministic, is not supported in a predicate: with \"fold\" COLLATE \"C\" \
             its bytes count",
        ),
        (
            "at > 'now'",
            "'now'",
            "the literal 'now' (write now()) is not supported in a predicate",
        ),
    ] {
        let error = bind(text, &[]).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert!(
            text[error.offset()..].starts_with(place),
            "{text}: {}",
            error.offset()
        );
    }
    for text in [
        "code < 'x'",
        "name = 'x'",
        "doc IS NOT NULL",
        "state IS NULL",
        "doc IS DISTINCT FROM NULL",
    ] {
        assert!(bind(text, &[]).is_ok(), "{text}");
    }
}

#[test]
fn what_people_write_first_is_answered_with_what_to_write() {
    for (text, hint) in [
        (
            "name = \"shipped\"",
            ": a text is written in single quotes, 'shipped'",
        ),
        (
            "name = shipped",
            ": if it is a text, write it in single quotes, 'shipped'",
        ),
        ("nmae = 'x'", ": did you mean name?"),
        (
            "odd = 1",
            ": did you mean \"Odd\"? A name with capitals needs double quotes",
        ),
        (
            "doc.kind = 'x'",
            ": a member of a document is written doc ->> 'kind'",
        ),
        ("o.id = 1", ": the only table is public.t"),
        ("state = 'hapy'", "; did you mean 'happy'?"),
        ("state = 'angry'", "; its labels are 'sad', 'ok', 'happy'"),
        (
            "select * from t where id = 1",
            "is the condition behind WHERE alone, such as status = 'paid'",
        ),
        (
            "where id = 1",
            "is the condition behind WHERE alone, such as status = 'paid'",
        ),
        (
            "id = 1 ORDER BY id",
            "; a predicate is the condition behind WHERE alone",
        ),
        ("name LIK 'x'", "; did you mean LIKE?"),
        ("id == 1", "the operator == (write =)"),
        (
            "id = 1 && id = 2",
            "&& as an operand (between conditions write AND)",
        ),
        (
            "id = 1 && \"on\"",
            "&& as an operand (between conditions write AND)",
        ),
        (
            "id = 1 || id = 2",
            "the operator || (write OR between conditions)",
        ),
        (
            "at > 2024-01-31",
            ": a date is written in single quotes, '2024-01-31'",
        ),
        (
            "doc ->> 'n' > 5",
            ": to compare a text as a number cast it, (…)::numeric",
        ),
        (
            "5 = (doc ->> 'n')",
            ": to compare a text as a number cast it, (…)::numeric",
        ),
        (
            "doc -> 'n' = 5",
            ": take a part of a document as text, data ->> 'key', and that as a number, (data ->> 'key')::numeric",
        ),
        (
            "doc['n'] = '5'",
            "a subscript (of a document write data -> 'key')",
        ),
        (
            "name = ARRAY['x']",
            "text and text[] cannot be compared: one of several values is asked for by IN ('a', 'b')",
        ),
        (
            "state = ANY (ARRAY['ok', 'sad'])",
            ": ARRAY['a', 'b'] is a text[]; '{a,b}' takes the type of what it is compared with",
        ),
        ("id = ?", "a parameter is written $1"),
        ("id IN (?, ?)", "a parameter is written $1"),
        ("id = :id", "a parameter is written $1"),
        ("name LIKE %s", "a parameter is written $1"),
        ("id = #{id}", "a parameter is written $1"),
        ("name ISNULL", "; write IS NULL"),
        ("length(name) > 3", "(there are lower, upper, coalesce and now())"),
        ("id =", "found: the end"),
        (
            "tags = ARRAY[1]",
            "an array that is written '{…}' has the type of the other",
        ),
    ] {
        let error = bind(text, &[]).expect_err(text).to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
}
