//! `walcast check --config` with policies, against the tables that there are.

use std::process::Command;

use crate::support::PROGRAM;
use crate::support::guarded::{Guarded, Roles};

/// The exit code of `check`, and what it says of this file's policies, the first of which begins in line 17.
fn checked(guarded: &Guarded, policies: &str) -> (Option<i32>, String) {
    guarded.write("", policies);
    let mut command = Command::new(PROGRAM);
    command
        .args(["check", "--create-slot", "--config"])
        .arg(guarded.file());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    (
        output.status.code(),
        text.replace(&format!("{}:", guarded.file().display()), "FILE:"),
    )
}

#[test]
fn policies_are_held_against_the_tables_with_places_and_cures() {
    let guarded = Guarded::new(
        "CREATE TABLE orders (id int PRIMARY KEY, tenant int, status text); \
         CREATE TABLE whole (id int PRIMARY KEY, tenant int); ALTER TABLE whole REPLICA IDENTITY FULL; \
         CREATE SCHEMA bare; CREATE PUBLICATION pub FOR ALL TABLES",
    );
    let good = "[[policy]]\ntables = [\"whole\"]\nwhere = \"tenant = claim('tenant')::int\"\n";
    let (code, found) = checked(&guarded, good);
    assert_eq!(code, Some(0), "{found}");
    let wrong = format!(
        "{good}{}",
        r#"[[policy]]
tables = ["ordes", "bare.*"]

[[policy]]
tables = ["whole"]
columns = ["tennant"]
where = """
tenant = claim('tenant')::int
  AND nothing = 1"""

[[policy]]
tables = ["orders"]
where = "tenant = claim('tenant')::int"

[[policy]]
tables = ["public.*"]
where = "status = 'x'"
"#
    );
    let (code, found) = checked(&guarded, &wrong);
    assert_eq!(code, Some(1), "{found}");
    for expected in [
        "error: FILE:21:11: public.ordes is not published: did you mean public.orders?",
        "warning: FILE:21:20: no table of the schema bare is published",
        "error: FILE:25:12: public.whole has no column tennant: did you mean tenant?",
        "error: FILE:25:12: columns: id of the key of public.whole must be among them",
        "error: FILE:28:7: where: it admits nothing of public.whole: there is no column \"nothing\"",
        "error: FILE:32:9: where: the log does not hold tenant of old rows of public.orders",
        "ALTER TABLE public.orders REPLICA IDENTITY FULL",
        "warning: FILE:36:10: where: it admits nothing of public.whole: there is no column \"status\"",
        "would keep walcast serve from working",
    ] {
        assert!(found.contains(expected), "{expected} is not in:\n{found}");
    }
}

#[test]
fn conditions_that_do_not_parse_are_refused_with_their_places_all_at_once() {
    let guarded =
        Guarded::new("CREATE TABLE orders (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES");
    let wrong = r#"[[policy]]
tables = ["orders"]
where = "id = "

[[policy]]
tables = ["orders"]
where = "id > (SELECT 1)"

[[policy]]
tables = ["orders"]
where = "now() > '2020-01-01'"
"#;
    let (code, found) = checked(&guarded, wrong);
    assert_eq!(code, Some(2), "{found}");
    for expected in ["FILE:19:", "FILE:23:", "FILE:27:10: where: the current time"] {
        assert!(found.contains(expected), "{expected} is not in:\n{found}");
    }
}

#[test]
fn row_level_security_is_held_against_the_policies_of_the_database() {
    let guarded = Guarded::new(
        "CREATE TABLE documents (id int PRIMARY KEY, tenant int, body text); CREATE TABLE members (tenant int PRIMARY KEY); \
         ALTER TABLE documents REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY; \
         CREATE TABLE notes (id int PRIMARY KEY, tenant int); ALTER TABLE notes ENABLE ROW LEVEL SECURITY; \
         CREATE PUBLICATION pub FOR ALL TABLES",
    );
    let mut roles = Roles::new(&guarded);
    let [good, looks, keyless, outsider] =
        ["good", "looks", "keyless", "outsider"].map(|name| roles.make(name, ""));
    let tenant = "(current_setting('request.jwt.claims', true)::json ->> 'tenant')::int";
    guarded.database.sql(&format!(
        "GRANT SELECT ON documents TO {good}, {looks}; GRANT SELECT (body) ON documents TO {keyless};
         GRANT SELECT ON notes TO {good}, {looks};
         CREATE POLICY own ON documents USING (tenant = {tenant});
         CREATE POLICY \"Their members\" ON documents TO {looks}
             USING (tenant IN (SELECT m.tenant FROM members m));
         CREATE POLICY matching ON documents AS RESTRICTIVE TO {looks} USING (body ~ '^a');
         CREATE POLICY writing ON documents FOR UPDATE TO {good} USING (body ~ '^a');
         CREATE POLICY own ON notes TO {good} USING (tenant = {tenant});"
    ));
    let policy =
        |tables: &str, roles: &str| format!("[[policy]]\ntables = [{tables}]\nrls = true\n{roles}\n");
    let of = |role: &str| format!("roles = [{role:?}]");
    let (code, found) = checked(&guarded, &policy("\"documents\"", &of(&good)));
    assert_eq!(code, Some(0), "{found}");
    let wrong = [
        policy(
            "\"documents\"",
            &format!("roles = [{looks:?}, \"nobody at all\"]"),
        ),
        policy("\"documents\"", &of(&keyless)),
        policy("\"documents\", \"public.*\"", &of(&outsider)),
        policy("\"notes\"", &format!("roles = [{good:?}, {looks:?}]")),
        policy("\"public.*\"", ""),
    ];
    let (code, found) = checked(&guarded, &wrong.concat());
    assert_eq!(code, Some(1), "{found}");
    let members = format!(
        "11: the policy \"Their members\" of public.documents in the database cannot be evaluated for the role \"{looks}\", \
         and subscriptions are refused: a subquery is not supported"
    );
    let matching = format!(
        "11: the policy \"matching\" of public.documents in the database cannot be evaluated for the role \"{looks}\""
    );
    let undecided = format!(
        "11: the log does not hold tenant of old rows of public.notes, which the policies of the database read for the role \
         \"{good}\": it cannot tell which rows were admitted, and subscriptions are refused; fix: ALTER TABLE public.notes \
         REPLICA IDENTITY FULL"
    );
    for expected in [
        format!("error: FILE:18:{members}"),
        "FROM public.members m".to_owned(),
        format!("error: FILE:18:{matching}"),
        format!(
            "error: FILE:20:{}: roles: the database has no role \"nobody at all\"",
            14 + looks.len()
        ),
        format!(
            "error: FILE:22:11: the key of public.documents is hidden for the role \"{keyless}\", which may not SELECT \"id\""
        ),
        format!("GRANT SELECT (\"id\") ON public.documents TO \"{keyless}\""),
        format!(
            "error: FILE:26:11: public.documents does not exist for the role \"{outsider}\", which may read nothing of it"
        ),
        format!("GRANT SELECT ON public.documents TO \"{outsider}\""),
        format!("error: FILE:30:{undecided}"),
        format!("error: FILE:30:11: no row of public.notes is shown for the role \"{looks}\""),
        // Where no role is named, all are that the database has.
        format!("error: FILE:34:{members}"),
        format!("error: FILE:34:{matching}"),
        format!("error: FILE:34:{undecided}"),
        format!("warning: FILE:34:11: the key of public.documents is hidden for the role \"{keyless}\""),
    ] {
        assert!(found.contains(&expected), "{expected} is not in:\n{found}");
    }
    // Of all tables of a schema, a role may read those that it may, and policies for writing decide nothing here.
    for unexpected in ["FILE:26:24:", "\"writing\"", "public.members does"] {
        assert!(!found.contains(unexpected), "{unexpected} is in:\n{found}");
    }
}
