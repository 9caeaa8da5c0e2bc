//! Cures that have the log hold more of old rows, on every kind of table that it is said for, and the script that does
//! it.

use walcast::cluster::Cluster;
use walcast::event::{Caveat, Relation, TableName};
use walcast::postgres::*;

use super::{COLUMNS, found, of_kind, start, version, wanted, write};
use crate::info;

/// The table as it is told to those who subscribe.
fn told(cluster: &Cluster, table: &str) -> Relation {
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let publications = [Publication::new("p").unwrap()];
    let found = catalog
        .table(&publications, &TableName::new("public", table))
        .unwrap();
    found.unwrap_or_else(|| panic!("{table} is not published"))
}

/// The statements in what is said, without the words around them and without what else might be done.
fn sql_of(cure: &str) -> &str {
    let starts = [
        "ALTER PUBLICATION",
        "CREATE UNIQUE INDEX",
        "DO $cure$",
        "ALTER TABLE",
    ];
    let start = starts.iter().filter_map(|start| cure.find(start)).min().unwrap();
    let text = &cure[start..];
    let end = [", or publish", "  --"]
        .iter()
        .filter_map(|end| text.find(end))
        .min();
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn the_cure_for_old_rows_leaves_the_application_writing_and_is_one() {
    let cluster = start();
    let version = version(&cluster);
    let mut cases = vec![
        ("plain", format!("CREATE TABLE plain (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p FOR TABLE plain")),
        ("keyless", format!("CREATE TABLE keyless (id int, {COLUMNS}); CREATE PUBLICATION p FOR TABLE keyless")),
        (
            "generated",
            format!(
                "CREATE TABLE generated (id int PRIMARY KEY, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') STORED);
                 CREATE PUBLICATION p FOR TABLE generated; CREATE PUBLICATION other FOR ALL TABLES"
            ),
        ),
        (
            "root",
            format!(
                "CREATE TABLE root (id int, {COLUMNS}, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
                 CREATE TABLE a PARTITION OF root FOR VALUES IN ('a') PARTITION BY LIST (area);
                 CREATE TABLE aa PARTITION OF a FOR VALUES IN ('a'); CREATE TABLE b PARTITION OF root FOR VALUES IN ('b');
                 CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)"
            ),
        ),
        (
            "bare",
            format!(
                "CREATE TABLE bare (id int, {COLUMNS}) PARTITION BY LIST (area);
                 CREATE TABLE bare_a PARTITION OF bare FOR VALUES IN ('a'); ALTER TABLE bare_a ADD PRIMARY KEY (id);
                 CREATE PUBLICATION p FOR TABLE bare WITH (publish_via_partition_root = true)"
            ),
        ),
    ];
    if version >= 150_000 {
        cases.push((
            "listed",
            format!(
                "CREATE TABLE listed (id int PRIMARY KEY, {COLUMNS}, secret text);
                 CREATE PUBLICATION p FOR TABLE listed (id, state, area)"
            ),
        ));
    }
    if version >= 180_000 {
        cases.push((
            "virtual",
            format!(
                "CREATE TABLE \"virtual\" (id int PRIMARY KEY, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') VIRTUAL);
                 CREATE PUBLICATION p FOR TABLE \"virtual\""
            ),
        ));
    }
    for (table, schema) in cases {
        cluster.psql(&schema);
        let cure = told(&cluster, table).cure(&["state"]);
        println!("{table}: {cure}");
        cluster.psql(sql_of(&cure));
        write(&cluster, table);
        let now = told(&cluster, table);
        let (_, state) = now.column("state").unwrap();
        assert!(state.identity && !now.logging.unnamed, "{table}: {now:?}");
        let are_for_good = |caveat: &Caveat| *caveat == Caveat::WholePartitions && now.logging.partitioned;
        assert!(now.logging.caveats.iter().all(are_for_good), "{table}: {now:?}");
        cluster.psql("DROP PUBLICATION p; DROP PUBLICATION IF EXISTS other");
        cluster.psql(&format!("DROP TABLE {table}"));
    }
}

#[test]
fn what_check_says_of_writes_that_fail_is_so_and_its_cure_has_them_work() {
    let cluster = start();
    let version = version(&cluster);
    let mut cases = vec![
        (
            Code::NoReplicaIdentity,
            format!("CREATE TABLE t (id int, {COLUMNS}); CREATE PUBLICATION p FOR TABLE t"),
            "ALTER TABLE public.t REPLICA IDENTITY FULL",
        ),
        (
            Code::NoReplicaIdentity,
            format!(
                "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE UNIQUE INDEX i ON t (area);
                 ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i; CREATE PUBLICATION p FOR TABLE t"
            ),
            "ALTER TABLE public.t REPLICA IDENTITY DEFAULT",
        ),
        (
            Code::NoReplicaIdentity,
            format!(
                "CREATE TABLE t (id int, {COLUMNS}) PARTITION BY LIST (area); CREATE TABLE a PARTITION OF t DEFAULT;
                 ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root)"
            ),
            "REPLICA IDENTITY FULL",
        ),
    ];
    if version >= 150_000 {
        cases.push((
            Code::WritesFail,
            format!("CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p FOR TABLE t WHERE (state <> 'x')"),
            "ALTER TABLE public.t REPLICA IDENTITY FULL",
        ));
        // Either cure serves.
        for cure in [
            "ALTER TABLE public.t REPLICA IDENTITY DEFAULT;",
            "BEGIN; ALTER PUBLICATION p DROP TABLE public.t; ALTER PUBLICATION p ADD TABLE public.t; COMMIT;",
        ] {
            let listed = format!(
                "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); ALTER TABLE t REPLICA IDENTITY FULL;
                 CREATE PUBLICATION p FOR TABLE t (id, state, area)"
            );
            cases.push((Code::WritesFail, listed, cure));
        }
        cases.push((
            Code::WritesFail,
            format!(
                "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p FOR TABLE t (state, area)"
            ),
            "BEGIN; ALTER PUBLICATION p DROP TABLE public.t; ALTER PUBLICATION p ADD TABLE public.t; COMMIT;",
        ));
    }
    if version >= 180_000 {
        cases.push((
            Code::WritesFail,
            format!(
                "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') STORED);
                 ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t"
            ),
            "ALTER PUBLICATION \"p\" SET (publish_generated_columns = stored);",
        ));
        cases.push((
            Code::WritesFail,
            format!(
                "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') VIRTUAL);
                 ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t"
            ),
            "ALTER TABLE public.t REPLICA IDENTITY DEFAULT;",
        ));
    }
    for (code, schema, cure) in cases {
        cluster.psql(&schema);
        cluster.psql("INSERT INTO t (id, state, area) VALUES (1, 'open', 'a')");
        for statement in ["UPDATE t SET state = 'done'", "DELETE FROM t"] {
            assert!(
                cluster.try_psql("postgres", statement).is_err(),
                "{schema}: {statement}"
            );
        }
        let finding = of_kind(&cluster, &wanted(), code);
        let finding = finding.unwrap_or_else(|| panic!("{schema}: {:?}", found(&cluster, &wanted())));
        println!("{finding}");
        assert!(finding.cure.contains(cure), "{finding}");
        let run = match cure {
            "REPLICA IDENTITY FULL" => "ALTER TABLE a REPLICA IDENTITY FULL".to_owned(),
            cure => cure.to_owned(),
        };
        cluster.psql(&run);
        cluster.psql("DELETE FROM t");
        write(&cluster, "t");
        assert_eq!(of_kind(&cluster, &wanted(), code), None);
        cluster.psql("DROP PUBLICATION p; DROP TABLE t");
    }
}

#[test]
fn check_tells_of_what_subscriptions_are_refused_for_and_of_rows_that_never_come() {
    let cluster = start();
    cluster.psql(&format!(
        "CREATE TABLE t (id int, {COLUMNS}) PARTITION BY LIST (area); CREATE TABLE a PARTITION OF t FOR VALUES IN ('a');
         CREATE UNLOGGED TABLE u PARTITION OF t FOR VALUES IN ('u'); ALTER TABLE a ADD PRIMARY KEY (id);
         ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root)"
    ));
    let mut codes: Vec<Code> = check(&info(&cluster.url("postgres")), &wanted())
        .unwrap()
        .iter()
        .inspect(|finding| println!("{finding}"))
        .map(|finding| finding.code)
        .collect();
    codes.sort_by_key(|code| format!("{code:?}"));
    assert_eq!(
        codes,
        [
            Code::PartitionIdentities,
            Code::RowsLeftOut,
            Code::RowsUnnamed,
            Code::WholePartitions
        ]
    );
    // UPDATE works, whatever the root lacks.
    write(&cluster, "t");
}

#[test]
fn the_script_that_prepares_a_database_leaves_the_application_writing() {
    let cluster = start();
    cluster.psql(&format!(
        "CREATE SCHEMA \"Odd s\"; CREATE TABLE \"Odd s\".t (id int PRIMARY KEY, {COLUMNS});
         CREATE TABLE keyless (id int, {COLUMNS});
         CREATE TABLE generated (id int PRIMARY KEY, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') STORED);
         CREATE TABLE root (id int, {COLUMNS}, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE TABLE part PARTITION OF root FOR VALUES IN ('a');
         CREATE TABLE kept (id int PRIMARY KEY, {COLUMNS})"
    ));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/setup.sql");
    let run = |tables: &str, full: &str| {
        let output = cluster
            .command("psql")
            .args([
                "-X",
                "-q",
                "-d",
                &cluster.url("postgres"),
                "-v",
                &format!("tables={tables}"),
            ])
            .args(["-v", &format!("full={full}"), "-v", "slot=prepared", "-f", script])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        told
    };
    let all = "\"Odd s\".t, keyless, generated, root, kept";
    let told = run("kept, keyless", "root");
    assert!(
        told.contains("root stands in full but not in tables: it is left as it is"),
        "{told}"
    );
    let identity = |table: &str| {
        cluster.psql(&format!(
            "SELECT relreplident FROM pg_class WHERE oid = '{table}'::regclass"
        ))
    };
    assert_eq!((identity("kept"), identity("keyless")), ("d".into(), "f".into()));
    for _ in 0..2 {
        let told = run(all, "generated, root");
        assert!(!told.contains("stands in full"), "{told}");
        for table in ["\"Odd s\".t", "keyless", "generated", "root", "kept"] {
            write(&cluster, table);
        }
    }
    assert_eq!(identity("part"), "f");
    let usage = cluster.psql("SELECT has_schema_privilege('walcast', 'Odd s', 'USAGE')");
    assert_eq!(usage, "t");
    let wanted = Requirements {
        slot: SlotName::new("prepared").unwrap(),
        publications: vec![Publication::new("walcast").unwrap()],
        create_slot: false,
        ..wanted()
    };
    let findings = check(
        &info(&cluster.url("postgres").replace("postgres@", "walcast@")),
        &wanted,
    )
    .unwrap();
    // It was run again after the slot was made.
    let found: Vec<Code> = findings.iter().map(|finding| finding.code).collect();
    let rest: Vec<&Code> = found
        .iter()
        .filter(|code| !matches!(code, Code::PublicationYoungerThanSlot | Code::WholePartitions))
        .collect();
    assert!(rest.is_empty(), "{findings:?}");
}

#[test]
fn the_script_that_prepares_a_database_gives_up_rather_than_wait_for_an_application() {
    let cluster = start();
    cluster.psql("CREATE TABLE busy (id int PRIMARY KEY); CREATE TABLE quiet (id int PRIMARY KEY)");
    let url = cluster.url("postgres");
    let mut application = Connection::connect(&ConnInfo::parse(&url).unwrap(), Purpose::Application).unwrap();
    application.query("BEGIN; INSERT INTO busy VALUES (1)").unwrap();
    let run = || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/setup.sql");
        let names = [
            "-v",
            "tables=quiet, busy",
            "-v",
            "full=quiet, busy",
            "-v",
            "slot=prepared",
        ];
        let mut psql = cluster.command("psql");
        // So that a script that waits ends all the same.
        psql.env("PGOPTIONS", "-c statement_timeout=60s");
        psql.args(["-X", "-q", "-d", &url])
            .args(names)
            .args(["-f", script])
            .output()
            .unwrap()
    };
    let output = run();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("lock timeout"),
        "{told}"
    );
    application.query("INSERT INTO quiet VALUES (1); COMMIT").unwrap();
    let identities =
        "SELECT count(*) FROM pg_class WHERE relname IN ('quiet', 'busy') AND relreplident = 'f'";
    assert_eq!(cluster.psql(identities), "0", "nothing is done by halves");
    let output = run();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(cluster.psql(identities), "2");
}
