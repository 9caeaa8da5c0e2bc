//! `walcast types`: the tables of a publication as TypeScript, which compiles, and which CI compares.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Database, PROGRAM, left_out};

const SCHEMA: &str = r#"
    CREATE TYPE status AS ENUM ('new', 'it''s paid');
    CREATE TYPE place AS (street text, "no." int, at point);
    CREATE DOMAIN cents AS bigint CHECK (VALUE >= 0);
    CREATE DOMAIN mood AS status;
    CREATE SCHEMA audit;
    CREATE TABLE orders (
        id int PRIMARY KEY, amount numeric(10,2) NOT NULL, total cents NOT NULL, status status NOT NULL, mood mood,
        tags text[] NOT NULL, sums bigint[], home place, meta jsonb, raw json NOT NULL, paid boolean NOT NULL,
        at timestamptz NOT NULL, ratio float8, data bytea, "odd-name" uuid,
        twice int GENERATED ALWAYS AS (id * 2) STORED);
    CREATE TABLE audit.log (a int, b text, secret text, PRIMARY KEY (b, a));
    CREATE TABLE "Odd ""table""" (x int);
    CREATE PUBLICATION pub FOR TABLE orders, "Odd ""table""", audit.log;
"#;

fn types(database: &Database, arguments: &[&str]) -> Output {
    types_of(database, "pub", arguments)
}

fn types_of(database: &Database, publication: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command
        .args([
            "types",
            "--database-url",
            database.url(),
            "--publication",
            publication,
        ])
        .args(["--slot", "unused"])
        .args(arguments);
    command.output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const ORDERS: &str = r"export interface Orders {
  id: number
  amount: string
  total: string
  status: 'new' | 'it\'s paid'
  mood: 'new' | 'it\'s paid' | null
  tags: (string | null)[]
  sums: (string | null)[] | null
  home: { street: string | null; 'no.': number | null; at: string | null } | null
  meta: Json<'orders.meta'> | null
  raw: Json<'orders.raw'>
  paid: boolean
  at: string
  ratio: number | null
  data: string | null
  'odd-name': string | null
}
";

const SCHEMA_OF_THEM: &str = r#"export interface Schema {
  'audit.log': { row: AuditLog; key: 'b' | 'a' }
  '"Odd ""table"""': { row: OddTable; key: never }
  orders: { row: Orders; key: 'id' }
}
"#;

#[test]
fn the_tables_of_a_publication_are_written_as_typescript_that_compiles() {
    let database = Database::new(SCHEMA);
    let written = types(&database, &[]);
    assert!(written.status.success(), "{written:?}");
    let written = text(written.stdout);
    let head = format!(
        "// Written by `walcast types`, version {}: do not edit.\n// Database {}, publication pub, sha256 ",
        env!("CARGO_PKG_VERSION"),
        database.name
    );
    assert!(written.starts_with(&head), "{written}");
    // Generated columns are published from 18 on, if that is asked for.
    for part in [
        ORDERS,
        SCHEMA_OF_THEM,
        "      key: ['b', 'a'],\n      columns: {\n        a: 'integer',\n",
    ] {
        assert!(written.contains(part), "no {part} in {written}");
    }
    assert!(written.contains("        amount: 'numeric(10,2)',\n        total: 'cents',\n"));
    // The same each time.
    assert_eq!(text(types(&database, &[]).stdout), written);
    let of = |kind: &str| text(types(&database, &["--numbers", kind]).stdout);
    let native = of("native");
    assert!(native.contains("  amount: number\n  total: number\n"), "{native}");
    assert!(native.contains("  sums: (number | null)[] | null\n"));
    let bigint = of("bigint");
    assert!(bigint.contains("  amount: string\n  total: bigint\n"), "{bigint}");
    compiles(&[("text", &written), ("native", &native), ("bigint", &bigint)]);
}

/// Has TypeScript compile the files, with the client beside them, and a use of the types that is right and one that is
/// not.
fn compiles(files: &[(&str, &str)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = root.join("client/node_modules/typescript/bin/tsc");
    if !compiler.exists() {
        left_out("the compilation of types", "`npm ci` in client/ was not run");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (name, content) in files {
        let uses = r"
import type { Place } from './own.js'
const order = {} as Orders
export const label: 'new' | 'it\'s paid' = order.status
export const street: string | null | undefined = order.home?.street
export const place: Place | null = order.meta
// @ts-expect-error a label that there is not
export const wrong: Orders['status'] = 'old'
export const log: Schema['audit.log']['key'] = 'a'
";
        std::fs::write(
            folder.path().join(format!("{name}.ts")),
            format!("{content}{uses}"),
        )
        .unwrap();
        names.push(format!("./{name}.js"));
    }
    let own: String = names
        .iter()
        .map(|name| {
            format!("declare module '{name}' {{ interface JsonColumns {{ 'orders.meta': Place }} }}\n")
        })
        .collect();
    let own = format!("export interface Place {{ city: string }}\n{own}");
    std::fs::write(folder.path().join("own.ts"), own).unwrap();
    let client = root.join("client/src/index.ts");
    let settings = serde_json::json!({
        "compilerOptions": {
            "strict": true, "noEmit": true, "module": "nodenext", "target": "es2022", "noUnusedLocals": true,
            "exactOptionalPropertyTypes": true,
            "verbatimModuleSyntax": true, "skipLibCheck": true, "lib": ["es2022", "dom"], "types": [],
            "paths": {"@walcast/client": [client]},
        },
        "include": ["*.ts"],
    });
    std::fs::write(folder.path().join("package.json"), r#"{"type": "module"}"#).unwrap();
    std::fs::write(folder.path().join("tsconfig.json"), settings.to_string()).unwrap();
    let compiled = Command::new("node")
        .arg(compiler)
        .arg("-p")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", text(compiled.stdout));
}

#[test]
fn check_fails_once_the_database_has_moved_on_and_says_in_what() {
    let database = Database::new(SCHEMA);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.ts");
    let file = file.to_str().unwrap();
    let missing = types(&database, &["--out", file, "--check"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(types(&database, &["--out", file]).status.success());
    let check = |database: &Database| types(database, &["--out", file, "--check"]);
    assert!(check(&database).status.success());
    // Another database with the same tables will do.
    let same = Database::new(SCHEMA);
    let compared = check(&same);
    assert!(compared.status.success(), "{compared:?}");
    database.sql("ALTER TABLE orders DROP COLUMN data, ALTER COLUMN ratio SET NOT NULL");
    database.sql("ALTER TYPE status ADD VALUE 'lost'");
    let moved = check(&database);
    assert_eq!(moved.status.code(), Some(1), "{moved:?}");
    let said = text(moved.stderr);
    for line in [
        "-   data: string | null",
        "+   ratio: number\n",
        "+   status: 'new' | 'it\\'s paid' | 'lost'",
    ] {
        assert!(said.contains(line), "no {line} in {said}");
    }
    assert!(types(&database, &["--out", file]).status.success());
    assert!(check(&database).status.success());
    assert_eq!(types(&database, &["--check"]).status.code(), Some(2));
}

#[test]
fn of_a_table_the_published_columns_are_written_and_no_others() {
    let database = Database::new(SCHEMA);
    if database.version() < 150_000 {
        return left_out("column lists", "the server has none");
    }
    database.sql("CREATE PUBLICATION part FOR TABLE audit.log (a, b)");
    let written = text(types_of(&database, "part", &[]).stdout);
    assert!(
        written.contains("export interface AuditLog {\n  a: number\n  b: string\n}\n"),
        "{written}"
    );
    assert!(
        !written.contains("secret") && !written.contains("JsonColumns"),
        "{written}"
    );
    if database.version() >= 180_000 {
        database
            .sql("CREATE PUBLICATION all_of_it FOR TABLE orders WITH (publish_generated_columns = stored)");
        let written = text(types_of(&database, "all_of_it", &[]).stdout);
        assert!(written.contains("  twice: number | null\n"), "{written}");
    }
}
