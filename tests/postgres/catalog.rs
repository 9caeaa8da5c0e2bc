//! The catalog's answers.

use walcast::event::{Collation, Relation, ReplicaIdentity, StreamColumn, StreamRelation, TableName};
use walcast::lsn::Lsn;
use walcast::postgres::*;
use walcast::types::{CaseMap, CollationQuestion, Ctype, Kind};

use crate::{connect, info, left_out, publication, shared};

fn stream_column(name: &str, type_oid: u32, identity: bool) -> StreamColumn {
    StreamColumn {
        name: name.into(),
        type_oid,
        typmod: -1,
        identity,
    }
}

/// The stream's description of a table that the catalog knows.
pub(super) fn as_streamed(relation: &Relation) -> StreamRelation {
    relation.into()
}

#[test]
fn the_catalog_knows_odd_tables_and_their_types() {
    let cluster = &*shared();
    cluster.psql(
        r#"CREATE SCHEMA "We""ird S";
        CREATE TYPE "We""ird S".mood AS ENUM ('sad', 'ok');
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE DOMAIN tags AS text[];
        CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE "We""ird S"."T.1" (
            b bigint, a "We""ird S".mood, gone int, p positive, "Ünï ""x""" varchar(20), g int GENERATED ALWAYS AS (1) STORED,
            moods "We""ird S".mood[], ps positive[], tags tags, c text COLLATE "C", ci text COLLATE insensitive,
            pt point, boxes box[], vec int2vector, PRIMARY KEY (a, b));
        ALTER TABLE "We""ird S"."T.1" DROP COLUMN gone;
        CREATE PUBLICATION cat FOR TABLE "We""ird S"."T.1";"#,
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let mut tables = catalog
        .tables(&[publication("cat"), publication("missing")])
        .unwrap();
    let relation = tables.pop().unwrap();
    assert!(tables.is_empty());
    assert_eq!(relation.table, TableName::new("We\"ird S", "T.1"));
    assert_eq!(
        (relation.replica_identity, &relation.key),
        (ReplicaIdentity::Default, &vec![1, 0])
    );
    let oids = connect(cluster, Purpose::Query)
        .query("SELECT oid FROM pg_enum WHERE enumlabel IN ('sad', 'ok') ORDER BY enumsortorder")
        .unwrap();
    let labels: Vec<u32> = oids
        .iter()
        .map(|row| row.get(0).unwrap().parse().unwrap())
        .collect();
    let mood = || Kind::Enum {
        labels: vec!["sad".into(), "ok".into()],
        oids: labels.clone(),
        is_domain: false,
    };
    let array = |kind| Kind::Array(Box::new(kind));
    let expected = [
        ("b", "bigint", Kind::Int8, Collation::None),
        ("a", r#""We""ird S".mood"#, mood(), Collation::None),
        ("p", "positive", Kind::Int4, Collation::None),
        (
            "Ünï \"x\"",
            "character varying(20)",
            Kind::Text,
            Collation::Library,
        ),
        ("moods", r#""We""ird S".mood[]"#, array(mood()), Collation::None),
        ("ps", "positive[]", array(Kind::Int4), Collation::None),
        ("tags", "tags", array(Kind::Text), Collation::Library),
        ("c", "text", Kind::Text, Collation::Ascii),
        ("ci", "text", Kind::Text, Collation::Nondeterministic),
        ("pt", "point", Kind::Other, Collation::None),
        ("boxes", "box[]", array(Kind::Separated(b';')), Collation::None),
        (
            "vec",
            "int2vector",
            Kind::Vector(Box::new(Kind::Int2)),
            Collation::None,
        ),
    ];
    let found: Vec<_> = relation
        .columns
        .iter()
        .map(|c| {
            (
                c.name.as_str(),
                c.ty.name.as_str(),
                c.ty.kind.clone(),
                c.collation,
            )
        })
        .collect();
    assert_eq!(found, expected);
    let by_name = catalog.table(&[publication("cat")], &relation.table).unwrap();
    assert_eq!(by_name.as_ref(), Some(&relation));
    assert_eq!(
        catalog
            .table(&[publication("cat")], &TableName::new("public", "T.1"))
            .unwrap(),
        None
    );
    let described = catalog.describe(&as_streamed(&relation), Lsn::ZERO).unwrap();
    assert_eq!(described, Described::Known(relation));
}

#[test]
fn a_table_that_changed_or_went_is_described_as_the_stream_has_it() {
    let cluster = &*shared();
    cluster.psql(
        "CREATE TABLE d1 (id int PRIMARY KEY, other int NOT NULL UNIQUE, note text); CREATE PUBLICATION d1 FOR TABLE d1;",
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let before = catalog.tables(&[publication("d1")]).unwrap().pop().unwrap();
    let streamed = as_streamed(&before);
    cluster.psql("ALTER TABLE d1 DROP COLUMN id; ALTER TABLE d1 RENAME note TO remark; ALTER TABLE d1 ADD PRIMARY KEY (other)");
    let described = catalog.describe(&streamed, Lsn::ZERO).unwrap();
    assert!(matches!(described, Described::Known(_)));
    let relation = described.into_relation();
    assert_eq!(relation.key, [0]);
    assert_eq!(relation.columns.len(), 3);
    cluster.psql("DROP TABLE d1");
    let Described::Dropped(relation) = catalog.describe(&streamed, Lsn::ZERO).unwrap() else {
        panic!("the table was dropped");
    };
    assert_eq!(relation.key, [0]);
    let kinds: Vec<_> = relation.columns.iter().map(|c| c.ty.kind.clone()).collect();
    assert_eq!(kinds, [Kind::Int4, Kind::Int4, Kind::Text]);
    let unknown = StreamRelation {
        columns: vec![stream_column("x", 4_000_000_000, true)],
        ..streamed
    };
    let relation = catalog.describe(&unknown, Lsn::ZERO).unwrap().into_relation();
    assert_eq!(
        (relation.key.as_slice(), &relation.columns[0].ty.kind),
        (&[0][..], &Kind::Other)
    );
    assert_eq!(relation.columns[0].collation, Collation::Nondeterministic);
}

#[test]
fn the_catalog_knows_how_collations_fold_letters() {
    let cluster = &*shared();
    cluster.psql(
        r#"CREATE EXTENSION citext;
        CREATE TABLE letters (t text, c text COLLATE "C", p text COLLATE "POSIX", u text COLLATE "C.utf8",
            i text COLLATE "en-x-icu", n int, ci citext COLLATE "C", cis citext[]);
        CREATE PUBLICATION letters FOR TABLE letters;"#,
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let relation = catalog.tables(&[publication("letters")]).unwrap().pop().unwrap();
    let named = |name: &str| Ctype::Named(name.to_owned());
    let default = named("libc C.UTF-8");
    let expected = [
        ("t", default.clone()),
        ("c", Ctype::C),
        ("p", Ctype::C),
        ("u", named("libc C.utf8")),
        ("i", Ctype::Unknown),
        ("n", default.clone()),
        ("ci", Ctype::C),
        ("cis", default.clone()),
    ];
    let found = relation
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.ctype.clone()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    // `citext` compares by the database's, whatever the column's collation is.
    let citext = Kind::Citext(default.clone());
    assert_eq!(relation.columns[6].ty.kind, citext);
    assert_eq!(relation.columns[7].ty.kind, Kind::Array(Box::new(citext)));
    for name in ["libc C.UTF-8", "libc C.utf8"] {
        assert_eq!(
            CaseMap::of(&named(name)),
            None,
            "it is not asked for before it is needed"
        );
        catalog
            .learn(&CollationQuestion::Letters(name.to_owned()))
            .unwrap();
        let case = CaseMap::of(&named(name)).unwrap();
        assert_eq!(case.lower("ÉK\u{212a}ΑΣ".as_bytes()).unwrap(), "ékkασ".as_bytes());
    }
    // Another server's, or one of a collation that was dropped.
    let gone = CollationQuestion::Letters("libc xx_XX.utf8".to_owned());
    catalog.learn(&gone).unwrap();
    assert!(!gone.is_answered());
    let described = catalog.describe(&as_streamed(&relation), Lsn::ZERO).unwrap();
    assert_eq!(described, Described::Known(relation));
}

#[test]
fn each_replica_identity_has_its_key_and_its_flags() {
    let cluster = &*shared();
    cluster.psql(
        "CREATE TABLE i1 (a int NOT NULL, b int NOT NULL, c int, PRIMARY KEY (b), UNIQUE (a) INCLUDE (c));
         CREATE TABLE i2 (LIKE i1 INCLUDING ALL); ALTER TABLE i2 REPLICA IDENTITY FULL;
         CREATE TABLE i3 (LIKE i1 INCLUDING ALL); ALTER TABLE i3 REPLICA IDENTITY USING INDEX i3_a_c_key;
         CREATE TABLE i4 (LIKE i1 INCLUDING ALL); ALTER TABLE i4 REPLICA IDENTITY NOTHING;
         CREATE TABLE i5 (a int, b int PRIMARY KEY DEFERRABLE); CREATE TABLE i6 ();
         CREATE PUBLICATION i FOR TABLE i1, i2, i3, i4, i5, i6;",
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let tables = catalog.tables(&[publication("i")]).unwrap();
    let found: Vec<_> = tables
        .iter()
        .map(|t| {
            (
                t.table.name.as_str(),
                t.key.clone(),
                t.columns.iter().map(|c| c.identity).collect(),
            )
        })
        .collect();
    let expected: [(&str, Vec<usize>, Vec<bool>); 6] = [
        ("i1", vec![1], vec![false, true, false]),
        ("i2", vec![1], vec![true, true, true]),
        ("i3", vec![0], vec![true, false, false]),
        ("i4", vec![1], vec![false, false, false]),
        ("i5", vec![], vec![false, false]),
        ("i6", vec![], vec![]),
    ];
    assert_eq!(found, expected);
    for table in tables {
        assert_eq!(
            catalog.describe(&as_streamed(&table), Lsn::ZERO).unwrap(),
            Described::Known(table)
        );
    }
    assert!(catalog.tables(&[]).unwrap().is_empty());
}

#[test]
fn a_column_list_leaves_out_the_other_columns() {
    let cluster = &*shared();
    if connect(cluster, Purpose::Application).server_version_num() < 150_000 {
        return left_out("column lists", "they came with version 15");
    }
    cluster.psql("CREATE TABLE i7 (a int, b int PRIMARY KEY); CREATE PUBLICATION i7 FOR TABLE i7 (b)");
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let listed = catalog.tables(&[publication("i7")]).unwrap().pop().unwrap();
    assert_eq!((listed.columns.len(), listed.key), (1, vec![0]));
}

#[test]
fn the_catalog_reconnects_when_its_idle_connection_died() {
    let cluster = &*shared();
    let mut catalog = Catalog::new(info(&format!(
        "{}?application_name=dies",
        cluster.url("postgres")
    )));
    catalog.tables(&[publication("none")]).unwrap();
    cluster.psql(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'dies'",
    );
    assert!(catalog.tables(&[publication("none")]).unwrap().is_empty());
}

#[test]
fn composites_are_followed_as_deep_as_the_journal_can_hold_them() {
    let cluster = &*shared();
    let types = (1..40).map(|i| format!("CREATE TYPE nest{i} AS (inner_value nest{});", i - 1));
    cluster.psql(&format!(
        "CREATE TYPE nest0 AS (); {} CREATE TABLE nest (n nest39); CREATE PUBLICATION nest FOR TABLE nest;",
        types.collect::<String>()
    ));
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let relation = catalog.tables(&[publication("nest")]).unwrap().pop().unwrap();
    let text = serde_json::to_string(&relation).unwrap();
    assert_eq!(serde_json::from_str::<Relation>(&text).unwrap(), relation);
    assert!(text.matches("inner_value").count() > 20);
}

#[test]
fn a_composite_that_changes_makes_another_generation() {
    let cluster = &*shared();
    cluster.psql(
        "CREATE TYPE grows AS (a int); CREATE DOMAIN grown AS grows[]; CREATE TABLE g (g grown);
         CREATE PUBLICATION g FOR TABLE g;",
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let tables = |catalog: &mut Catalog| catalog.tables(&[publication("g")]).unwrap();
    let before = tables(&mut catalog);
    let generation = catalog.generation().unwrap();
    assert_eq!(catalog.generation().unwrap(), generation);
    assert_eq!(tables(&mut catalog), before);
    for change in [
        "ADD ATTRIBUTE b int",
        "RENAME ATTRIBUTE b TO c",
        "DROP ATTRIBUTE a",
    ] {
        let generation = catalog.generation().unwrap();
        cluster.psql(&format!("ALTER TYPE grows {change}"));
        assert!(catalog.generation().unwrap() > generation, "{change}");
    }
    let Kind::Array(element) = &tables(&mut catalog)[0].columns[0].ty.kind else {
        panic!("it is an array");
    };
    let attribute = |name: &str, number| walcast::types::Attribute {
        name: name.into(),
        attnum: walcast::types::Attnum::new(number),
        kind: Kind::Int4,
    };
    let expected = Kind::Composite {
        attributes: vec![attribute("c", 2)],
        only_grew: false,
    };
    assert_eq!(**element, expected);
}

#[test]
fn the_catalog_knows_hundreds_of_published_tables_of_every_kind() {
    const TABLES: usize = 300;
    let cluster = &*shared();
    // In a database of its own: a publication of all tables would concern the other tests' ones.
    cluster.psql("CREATE DATABASE many");
    let sql = |sql: &str| cluster.try_psql("many", sql).unwrap();
    sql(&format!(
        "CREATE SCHEMA many; CREATE SCHEMA others;
         DO $$ BEGIN FOR i IN 1..{TABLES} LOOP
             EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY, g int GENERATED ALWAYS AS (1) STORED, a int, b int)', i);
             EXECUTE format('CREATE TABLE others.t%s (id int)', i);
         END LOOP; END $$;
         CREATE TABLE many.p (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE many.p1 PARTITION OF many.p FOR VALUES FROM (0) TO (9);
         CREATE PUBLICATION many_all FOR ALL TABLES;
         CREATE PUBLICATION many_root FOR TABLE many.p, many.t7 WITH (publish_via_partition_root = true);
         CREATE PUBLICATION many_leaves FOR TABLE many.p, many.t7;"
    ));
    let mut catalog = Catalog::new(info(&cluster.url("many")));
    let mut names = |of: &[&str]| -> Vec<String> {
        let of: Vec<_> = of.iter().map(|name| publication(name)).collect();
        let tables = catalog.tables(&of).unwrap();
        assert!(tables.is_sorted_by(|a, b| a.oid < b.oid), "each once");
        let columns = |table: &Relation| -> Vec<_> { table.columns.iter().map(|c| c.name.clone()).collect() };
        tables
            .iter()
            .map(|table| format!("{} {}", table.table, columns(table).join(",")))
            .collect()
    };
    let every = |of_many: &str| -> Vec<String> {
        (1..=TABLES)
            .flat_map(|i| [format!("many.t{i} {of_many}"), format!("others.t{i} id")])
            .collect()
    };
    let all = [every("id,a,b"), vec!["many.p1 id".to_owned()]].concat();
    assert_eq!(names(&["many_all"]), all);
    assert_eq!(names(&["many_all", "many_leaves", "missing"]), all);
    assert_eq!(names(&["many_root"]), ["many.t7 id,a,b", "many.p id"]);
    assert_eq!(names(&["many_leaves"]), ["many.t7 id,a,b", "many.p1 id"]);
    if connect(cluster, Purpose::Application).server_version_num() < 150_000 {
        return left_out("column lists and schemas", "they came with version 15");
    }
    sql("CREATE PUBLICATION many_schema FOR TABLES IN SCHEMA others;
         CREATE PUBLICATION many_listed FOR TABLE many.t3 (b, id) WHERE (id > 0), many.t4 (a);
         CREATE PUBLICATION many_more FOR TABLE many.t4 (id, b);");
    let others: Vec<_> = (1..=TABLES).map(|i| format!("others.t{i} id")).collect();
    assert_eq!(names(&["many_schema"]), others);
    assert_eq!(names(&["many_listed"]), ["many.t3 id,b", "many.t4 a"]);
    assert_eq!(names(&["many_listed", "many_more"])[1], "many.t4 id,a,b");
}
