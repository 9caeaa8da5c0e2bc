//! The catalog's answers.

use walcast::event::{Collation, Lookup, Relation, ReplicaIdentity, StreamColumn, StreamRelation, TableName};
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
fn as_streamed(relation: &Relation) -> StreamRelation {
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
fn the_catalog_knows_what_publications_have_of_a_table() {
    let cluster = &*shared();
    cluster.psql(
        r#"CREATE TABLE "W 1" (id int PRIMARY KEY, g int GENERATED ALWAYS AS (1) STORED, v varchar(9));
         CREATE TABLE w2 (id int); CREATE TABLE w3 (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE w4 PARTITION OF w3 FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
         CREATE TABLE w5 PARTITION OF w4 FOR VALUES FROM (0) TO (5);
         CREATE PUBLICATION w FOR TABLE "W 1" WITH (publish = 'insert, truncate');
         CREATE PUBLICATION w_plain FOR TABLE w3;
         CREATE PUBLICATION w_root FOR TABLE w3 WITH (publish_via_partition_root = true)"#,
    );
    let mut catalog = Catalog::new(info(&cluster.url("postgres")));
    let mut ask = |of: &[&str], name: &str| {
        let of: Vec<_> = of.iter().map(|name| publication(name)).collect();
        let (as_of, found) = catalog
            .published_as(&of, &TableName::new("public", name), Lsn::ZERO)
            .unwrap();
        assert!(as_of > Lsn::ZERO);
        found
    };
    let mut published = |of: &[&str], name: &str| match ask(of, name) {
        Lookup::Published(published) => published,
        other => panic!("{name}: {other:?}"),
    };
    let table = published(&["w", "w_root"], "W 1");
    let columns: Vec<_> = table
        .relation
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.typmod, c.identity))
        .collect();
    assert_eq!(columns, [("id", -1, true), ("v", 13, false)]);
    assert_eq!(table.left_out, ["g"]);
    let operations = [table.insert, table.update, table.delete, table.truncate];
    assert_eq!(operations, [true, false, false, true]);
    assert!(!table.via_root && !table.row_filter);
    // A partition is published as itself, or as the topmost table that is published with it.
    let itself = published(&["w_plain"], "w5");
    assert_eq!(
        (itself.relation.table.name.as_str(), itself.via_root),
        ("w5", false)
    );
    for (name, via_root) in [("w3", false), ("w4", true), ("w5", true)] {
        let found = published(&["w_root", "w"], name);
        assert_eq!(
            (found.relation.table.name.as_str(), found.via_root),
            ("w3", via_root)
        );
    }
    assert_eq!(ask(&["w_plain"], "w3"), Lookup::Unpublished);
    assert_eq!(ask(&["w", "missing"], "w2"), Lookup::Unpublished);
    assert_eq!(ask(&[], "w2"), Lookup::Unpublished);
    assert_eq!(ask(&["w"], "w 1"), Lookup::Gone);
    if connect(cluster, Purpose::Application).server_version_num() < 150_000 {
        return left_out("column lists and row filters", "they came with version 15");
    }
    cluster.psql(r#"CREATE PUBLICATION w_some FOR TABLE "W 1" (id) WHERE (id > 0)"#);
    let Lookup::Published(some) = ask(&["w_some"], "W 1") else {
        panic!("it is published");
    };
    assert_eq!((some.relation.columns.len(), some.row_filter), (1, true));
    assert_eq!(some.left_out, ["g", "v"]);
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

/// Tables, partitions and publications of every kind.
fn publications_of_every_kind(version: u32) -> String {
    let mut sql = String::from(
        "CREATE SCHEMA one; CREATE SCHEMA two;
         CREATE TABLE one.plain (id int PRIMARY KEY, a int, gone int, b int);
         ALTER TABLE one.plain DROP COLUMN gone;
         CREATE TABLE two.plain (id int); CREATE TABLE two.child () INHERITS (two.plain); CREATE TABLE two.bare ();
         CREATE UNLOGGED TABLE one.unlogged (id int); CREATE VIEW one.seen AS SELECT 1; CREATE SEQUENCE one.counts;
         CREATE TABLE one.root (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
         CREATE TABLE two.middle PARTITION OF one.root FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
         CREATE TABLE one.leaf PARTITION OF two.middle FOR VALUES FROM (0) TO (5);
         CREATE TABLE two.leaf PARTITION OF two.middle FOR VALUES FROM (5) TO (9);
         CREATE TABLE one.other PARTITION OF one.root FOR VALUES FROM (9) TO (10);
         CREATE TABLE one.childless (id int) PARTITION BY RANGE (id);
         CREATE PUBLICATION empty;",
    );
    if version >= 160_000 {
        // The view of 15 lists them, though the server does not publish them.
        sql += "ALTER TABLE one.plain ADD COLUMN g int GENERATED ALWAYS AS (1) STORED;";
    }
    let mut contents = vec![
        "FOR ALL TABLES",
        "FOR TABLE one.plain, two.plain, two.bare, one.root, one.childless",
        "FOR TABLE ONLY two.plain",
        "FOR TABLE two.middle, one.other",
        "FOR TABLE one.leaf",
    ];
    if version >= 150_000 {
        contents.extend([
            "FOR TABLES IN SCHEMA one",
            "FOR TABLES IN SCHEMA two",
            "FOR TABLES IN SCHEMA two, TABLE one.plain WHERE (a > 0), one.other, one.leaf WHERE (id > 2)",
            "FOR TABLE one.plain (id, b) WHERE (id > 0), one.other",
            "FOR TABLES IN SCHEMA two, TABLE two.plain",
            "FOR TABLE one.root, one.leaf (id, a) WHERE (id > 1)",
        ]);
    }
    if version >= 180_000 {
        contents.push("FOR TABLE one.plain (id, g)");
    }
    for (number, content) in contents.iter().enumerate() {
        for root in [false, true] {
            sql += &format!(
                "CREATE PUBLICATION p{number}_{root} {content} WITH (publish_via_partition_root = {root});"
            );
        }
    }
    if version >= 150_000 {
        // Only through its root may a partitioned table have these.
        sql +=
            "CREATE PUBLICATION root FOR TABLE one.root (id) WHERE (id > 0), one.leaf (id, a) WHERE (id > 1)
                WITH (publish_via_partition_root = true);";
    }
    if version >= 180_000 {
        sql += "CREATE PUBLICATION generated FOR TABLE one.plain WITH (publish_generated_columns = stored);
                CREATE PUBLICATION all_generated FOR ALL TABLES WITH (publish_generated_columns = stored);";
    }
    sql
}

#[test]
fn publications_have_the_tables_that_the_servers_view_says() {
    let cluster = &*shared();
    let version = connect(cluster, Purpose::Application).server_version_num();
    cluster.psql("CREATE DATABASE published");
    cluster
        .try_psql("published", &publications_of_every_kind(version))
        .unwrap();
    let mut connection = Connection::connect(&info(&cluster.url("published")), Purpose::Application).unwrap();
    let (view_filters, filters) = match version {
        150_000.. => (
            "attnames::text, rowfilter",
            "attnames::text, pg_get_expr(qual, relid)",
        ),
        _ => ("NULL, NULL", "NULL, NULL"),
    };
    let mut ask = |of: &str, filters: &str| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', pubname, schemaname, tablename, {filters}) FROM {of} t ORDER BY 1"
        );
        let rows = connection.query(&sql).unwrap();
        rows.iter().map(|row| row.get(0).unwrap().to_owned()).collect()
    };
    let expected = ask("pg_publication_tables", view_filters);
    assert!(expected.len() > 30, "{expected:#?}");
    assert_eq!(ask(&publication_tables(version), filters), expected);
}

#[test]
fn no_question_waits_for_a_table_that_is_locked() {
    let cluster = &*shared();
    let version = connect(cluster, Purpose::Application).server_version_num();
    let filter = if version >= 150_000 { "WHERE (id > 0)" } else { "" };
    cluster.psql(&format!(
        "CREATE TABLE l1 (id int PRIMARY KEY); CREATE TABLE l2 (id int PRIMARY KEY);
         CREATE PUBLICATION locked FOR TABLE l1, l2 {filter}"
    ));
    let mut holder = connect(cluster, Purpose::Application);
    holder
        .query("BEGIN; LOCK TABLE l1, l2 IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let url = cluster.url("postgres");
    let separator = if url.contains('?') { '&' } else { '?' };
    let impatient = info(&format!("{url}{separator}options=-c%20lock_timeout%3D100"));
    let mut catalog = Catalog::new(impatient.clone());
    let published = [publication("locked")];
    assert_eq!(catalog.tables(&published).unwrap().len(), 2);
    for name in ["l1", "l2"] {
        let name = TableName::new("public", name);
        let table = catalog.table(&published, &name).unwrap().unwrap();
        assert!(matches!(
            catalog.published_as(&published, &name, Lsn::ZERO).unwrap().1,
            Lookup::Published(_)
        ));
        catalog.describe(&as_streamed(&table), Lsn::ZERO).unwrap();
    }
    // That the timeout is in force.
    let mut waits = Connection::connect(&impatient, Purpose::Application).unwrap();
    let error = waits.query("SELECT FROM l1").unwrap_err();
    assert!(error.to_string().contains("lock timeout"), "{error}");
    holder.query("ROLLBACK").unwrap();
}
