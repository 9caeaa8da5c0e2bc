//! Letters: what the server's tables say is what `lower` does, and where there is no table nothing that needs it is
//! taken.

use walcast::cluster::Cluster;
use walcast::event::{Relation, Tuple, View};
use walcast::filter::{Predicate, Row, Verdict};
use walcast::types::{CaseMap, Kind};

use crate::predicates::Written;
use crate::table::{LETTERS, ROWS, quote, relation, table};
use crate::{answers, cluster, cluster_of, seed, tuples};

const DEFINITION: &str = "CREATE EXTENSION citext; CREATE TABLE t (id int, ci citext, ci2 citext COLLATE \"C\", \
     cx citext COLLATE \"en-x-icu\", cia citext[], tx text, tc text COLLATE \"C\", tu text COLLATE \"C.utf8\", \
     ti text COLLATE \"en-x-icu\"); CREATE PUBLICATION pub FOR TABLE t";

fn refusal(relation: &Relation, text: &str) -> Option<String> {
    let bound = Predicate::parse(text).unwrap().bind(View::whole(relation), &[]);
    bound.err().map(|error| error.to_string())
}

#[test]
fn lower_maps_each_character_by_itself_wherever_it_stands() {
    let (cluster, mut rng) = cluster(seed());
    let builtin = builtin_locales(&cluster).contains(&"C.UTF-8");
    is_mapped_by_itself(&cluster, &mut rng);
    drop(cluster);
    if builtin {
        is_mapped_by_itself(&cluster_of(&of_builtin("C.UTF-8")), &mut rng);
    }
}

/// The locales of the builtin provider that this server has.
fn builtin_locales(cluster: &Cluster) -> &'static [&'static str] {
    match cluster.psql("SHOW server_version_num").parse().unwrap() {
        180_000.. => &["C.UTF-8", "PG_UNICODE_FAST"],
        170_000.. => &["C.UTF-8"],
        0_u32.. => &[],
    }
}

/// The options of a cluster whose databases have a locale of the builtin provider.
fn of_builtin(locale: &str) -> String {
    format!("--locale=C --encoding=UTF8 --locale-provider=builtin --builtin-locale={locale}")
}

fn is_mapped_by_itself(cluster: &Cluster, rng: &mut fastrand::Rng) {
    cluster.psql(DEFINITION);
    let relation = relation(cluster);
    let (_, column) = relation.column("ci").unwrap();
    let Kind::Citext(ctype) = &column.ty.kind else {
        panic!("{column:?}");
    };
    let case = CaseMap::of(ctype).unwrap();
    assert_eq!(
        CaseMap::of(&column.ctype),
        Some(case),
        "the column has the database's collation"
    );
    let code = |rng: &mut fastrand::Rng| match rng.u8(..4) {
        0 => rng.u32(1..0x500),
        1 => rng.u32(0x1e00..0x2c00),
        2 => rng.u32(0x10400..0x10500),
        _ => rng.u32(1..0x11_0000),
    };
    let texts: Vec<String> = (0..20_000)
        .map(|_| {
            (0..rng.usize(1..20))
                .filter_map(|_| char::from_u32(code(rng)))
                .collect()
        })
        .collect();
    let list: Vec<String> = texts.iter().map(|text| format!("('{}')", hex(text))).collect();
    let sql = format!(
        "SELECT encode(convert_to(lower(convert_from(decode(x, 'hex'), 'UTF8') COLLATE \"default\"), 'UTF8'), 'hex') FROM (VALUES {}) v(x)",
        list.join(",")
    );
    let answers = cluster.psql(&sql);
    assert_eq!(answers.lines().count(), texts.len());
    let changed = texts.iter().zip(answers.lines()).filter(|(text, answer)| {
        let lower = case.lower(text.as_bytes()).unwrap();
        assert_eq!(hex(std::str::from_utf8(&lower).unwrap()), *answer, "{text:?}");
        hex(text) != *answer
    });
    assert!(changed.count() > 5_000);
    // And of all characters at once, each next to its neighbours.
    let all = "SELECT lower(string_agg(chr(i), '' ORDER BY i)) = string_agg(lower(chr(i)), '' ORDER BY i) \
               FROM generate_series(1, 1114111) i WHERE i NOT BETWEEN 55296 AND 57343";
    assert_eq!(cluster.psql(all), "t");
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn has_icu(cluster: &Cluster) -> bool {
    cluster.psql("SELECT count(*) FROM pg_collation WHERE collprovider = 'i'") != "0"
}

#[test]
fn a_collation_of_icu_folds_in_its_own_way() {
    let (cluster, _) = cluster(seed());
    if !has_icu(&cluster) {
        return;
    }
    cluster.psql(DEFINITION);
    let relation = relation(&cluster);
    for text in [
        "cx = 'A'",
        "cx IN ('a', 'b')",
        "ci LIKE 'A%'",
        "tx ILIKE 'A%'",
        "tu ILIKE 'x'",
        "id::text ILIKE 'x'",
        "tc ILIKE 'x'",
        "ci2 < 'b'",
    ] {
        assert_eq!(refusal(&relation, text), None, "{text}");
    }
    for text in ["cx LIKE 'a%'", "ti ILIKE 'a%'", "cx ILIKE 'a'"] {
        let refusal = refusal(&relation, text).unwrap_or_default();
        assert!(
            refusal.contains("whose collation folds letters in a way"),
            "{text}: {refusal}"
        );
    }
    for text in ["cx < 'a'", "ti BETWEEN 'a' AND 'b'"] {
        let refusal = refusal(&relation, text).unwrap_or_default();
        assert!(
            refusal.contains("the order of its collation is known to the server alone"),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn a_database_of_icu_compares_no_citext() {
    let (cluster, _) = cluster(seed());
    let version: u32 = cluster.psql("SHOW server_version_num").parse().unwrap();
    if version < 150_000 || !has_icu(&cluster) {
        return;
    }
    drop(cluster);
    let cluster = cluster_of("--locale=C.UTF-8 --locale-provider=icu --icu-locale=tr-TR");
    assert_eq!(cluster.psql("SELECT lower('I'), lower('ΑΣ')"), "ı|ας");
    is_without_citext(&cluster);
}

#[test]
fn a_database_whose_letters_depend_on_those_around_them_compares_no_citext() {
    let (cluster, _) = cluster(seed());
    if !builtin_locales(&cluster).contains(&"PG_UNICODE_FAST") {
        return;
    }
    drop(cluster);
    let cluster = cluster_of(&of_builtin("PG_UNICODE_FAST"));
    assert_eq!(cluster.psql("SELECT lower('I'), lower('ΑΣ')"), "i|ας");
    is_without_citext(&cluster);
}

fn is_without_citext(cluster: &Cluster) {
    cluster.psql(DEFINITION);
    let relation = relation(cluster);
    for text in [
        "ci = 'A'",
        "ci2 = 'A'",
        "ci = ci2",
        "'a' = ANY (cia)",
        "cia @> '{a}'",
        "cia = cia",
        "ci IN ('a', 'b')",
    ] {
        let refusal = refusal(&relation, text).unwrap_or_default();
        assert!(
            refusal.starts_with("comparing citext is not supported in this database"),
            "{text}: {refusal}"
        );
    }
    for text in ["ci LIKE 'a'", "tx ILIKE 'a'", "id::text ILIKE 'x'"] {
        let refusal = refusal(&relation, text).unwrap_or_default();
        assert!(
            refusal.contains("whose collation folds letters in a way"),
            "{text}: {refusal}"
        );
    }
    for text in [
        "ci IS NULL",
        "ci IS NOT DISTINCT FROM NULL",
        "ci = tx",
        "ci::text = 'a'",
        "ci2 LIKE 'a'",
        "tu ILIKE 'a'",
    ] {
        assert_eq!(refusal(&relation, text), None, "{text}");
    }
}

/// Conditions on a letter, `$`, that are taken under every collation that folds.
const CONDITIONS: &[&str] = &[
    "ct = $",
    "$ <> ct2",
    "ctd = $",
    "ct IS DISTINCT FROM $",
    "ct IN ($, 'x')",
    "ct IN ($, 'x'::text)",
    "ct NOT IN ('x'::text, $::text)",
    "ct IN ($, tx)",
    "ct = $::text",
    "ct::text = $",
    "ct = tx OR ct = $",
    "ct = nm",
    "ct = ct2",
    "ct = ctd",
    "ct2 >= $",
    "ct2 < $",
    "ct LIKE $",
    "ct2 LIKE $",
    "ctd NOT LIKE $",
    "ct2 ILIKE '%' || $",
    "ct::text LIKE $",
    "ct::varchar ILIKE $",
    "tl ILIKE $",
    "tx ILIKE $",
    "tc ILIKE $",
    "nm ILIKE $",
    "bp ILIKE $",
    "en::text ILIKE $",
    "tl LIKE $",
    "js ->> 'a' ILIKE $",
    "$ = ANY (cta)",
    "$ <> ANY (cta2)",
    "$::text = ANY (cta)",
    "ct = ANY (cta2)",
    "ct = ANY (ta)",
    "tx = ANY (cta)",
    "cta @> ARRAY[$]",
    "cta2 && ARRAY[$]",
    "cta2 < ARRAY[$]",
    "cta = cta2",
    "cta = ARRAY[$]",
];

/// The question to the server, and the one to us: an array or a concatenation is written as its literal.
fn with_letter(condition: &str, letter: &str) -> String {
    let array = format!("'{{\"{}\"}}'", letter.replace("''", "'").replace('\'', "''"));
    let tail = quote(&format!("%{letter}"));
    let condition = condition.replace("ARRAY[$]", &array).replace("'%' || $", &tail);
    condition.replace('$', &quote(letter))
}

#[test]
fn every_letter_compares_as_it_does_there_in_every_way() {
    let (mut cluster, mut rng) = cluster(seed());
    let mut locales = vec!["--locale=C.UTF-8".to_owned(), "--locale=C".to_owned()];
    if builtin_locales(&cluster).contains(&"C.UTF-8") {
        locales.push(of_builtin("C.UTF-8"));
    }
    for locale in &locales {
        if *locale != locales[0] {
            cluster = cluster_of(locale);
        }
        cluster.psql(&table(&mut rng));
        let letters: Vec<String> = LETTERS.iter().map(|letter| quote(letter)).collect();
        let letters = format!("(ARRAY[{}])", letters.join(","));
        let of = |step: usize| format!("{letters}[(id * {step}) % {} + 1]", LETTERS.len());
        cluster.psql(&format!(
            "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET ct = {0}, ct2 = {0}, ctd = {1}, tl = {0}, tx = {0}, tc = {0}, nm = {1}, bp = left({0}, 6),
                 cta = ARRAY[{0}, {1}], cta2 = ARRAY[{0}], ta = ARRAY[{1}], js = json_build_object('a', {0})",
            of(1),
            of(5)
        ));
        let rows = tuples(&cluster.psql("COPY (SELECT * FROM t ORDER BY id) TO STDOUT"));
        assert_eq!(rows.len(), ROWS);
        let relation = relation(&cluster);
        let written: Vec<Written> = CONDITIONS
            .iter()
            .flat_map(|condition| LETTERS.iter().map(|letter| with_letter(condition, letter)))
            .map(|text| Written {
                ours: text.clone(),
                theirs: text,
                parameters: Vec::new(),
            })
            .collect();
        let answers = answers(&cluster, &written.iter().collect::<Vec<_>>());
        for (Written { ours, .. }, answer) in written.iter().zip(answers) {
            let bound =
                Predicate::parse(ours).and_then(|predicate| predicate.bind(View::whole(&relation), &[]));
            let matcher = bound.unwrap_or_else(|error| panic!("{ours}: {error}"));
            let holds =
                |row: &[u8]| matcher.eval(&Row::new(Tuple::parse(row).unwrap().0)) == Verdict::Matches;
            let found = rows.iter().enumerate().filter(|(_, row)| holds(row));
            let found: Vec<String> = found.map(|(id, _)| id.to_string()).collect();
            assert_eq!(found.join(","), answer, "{locale}: {ours}");
        }
    }
}
