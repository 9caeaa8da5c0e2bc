//! Row security and privileges: the part of a table that a role may see, and whether that may have changed.

use serde::Deserialize;

use super::*;
use crate::event::Visible;
use crate::policy::{DatabaseFunction, DatabasePolicy, RoleAccess, RoleCatalog};
use crate::types::CollationQuestion;

/// The functions of Supabase's that policies may call.
const FUNCTIONS: [&str; 4] = ["uid", "role", "jwt", "email"];

impl Catalog {
    /// A table as a role may see it; `None` if it may read nothing of it, or if there is no such role.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) fn role_access(&mut self, table: u32, role: &str) -> Result<Option<RoleAccess>, Error> {
        const QUESTION: &str = "what a role may see of a table";
        let parameters: [Parameter<'_>; 3] = [
            (&table, PgType::OID),
            (&role, PgType::TEXT),
            (&FUNCTIONS.as_slice(), PgType::TEXT_ARRAY),
        ];
        let rows = self.session.ask(access_sql, &parameters)?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let has_usage: bool = row.get(0, QUESTION)?;
        let is_whole: bool = row.get(1, QUESTION)?;
        let names: Vec<String> = row.get(2, QUESTION)?;
        if !has_usage || names.is_empty() {
            return Ok(None);
        }
        let is_restricted: bool = row.get(3, QUESTION)?;
        let read = |index, what| -> Result<&str, Error> { row.get(index, what) };
        let policies: Vec<PolicyRow> = json(read(4, QUESTION)?)?;
        let functions: Vec<FunctionRow> = json(read(5, QUESTION)?)?;
        Ok(Some(RoleAccess {
            columns: if is_whole {
                Visible::All
            } else {
                Visible::only(names)
            },
            policies: is_restricted.then(|| policies.into_iter().map(PolicyRow::into_policy).collect()),
            functions: functions.into_iter().map(FunctionRow::into_function).collect(),
            types: json(read(6, QUESTION)?)?,
        }))
    }

    /// The roles that may read something of a table, one of each kind: those to whom the same policies apply, and who may
    /// read the same columns and execute the same functions, are of one.
    ///
    /// # Errors
    /// The database does not answer.
    fn kinds_of_roles(&mut self, table: u32) -> Result<Vec<String>, Error> {
        let parameters: [Parameter<'_>; 2] =
            [(&table, PgType::OID), (&FUNCTIONS.as_slice(), PgType::TEXT_ARRAY)];
        let rows = self.session.ask(|_| kinds_sql(), &parameters)?;
        rows.iter()
            .map(|row| row.get(0, "the roles that may read a table"))
            .collect()
    }

    /// A text that is another one once policies, privileges, roles, memberships or the functions that policies may call
    /// have changed, of whatever table.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) fn security_state(&mut self) -> Result<String, Error> {
        let parameters: [Parameter<'_>; 1] = [(&FUNCTIONS.as_slice(), PgType::TEXT_ARRAY)];
        let question = "the state of row security";
        let mut rows = self.session.ask(|_| STATE.to_owned(), &parameters)?;
        let row = rows.pop().ok_or_else(|| Error::Answer {
            question,
            problem: "expected one row".into(),
        })?;
        row.get(0, question)
    }
}

impl RoleCatalog for Catalog {
    type Error = Error;

    fn has_role(&mut self, role: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname = $1";
        let parameters: [Parameter<'_>; 1] = [(&role, PgType::TEXT)];
        Ok(!self.session.ask(|_| sql.to_owned(), &parameters)?.is_empty())
    }

    fn roles(&mut self, table: u32) -> Result<Vec<String>, Error> {
        self.kinds_of_roles(table)
    }

    fn access(&mut self, table: u32, role: &str) -> Result<Option<RoleAccess>, Error> {
        self.role_access(table, role)
    }

    fn answer(&mut self, question: &CollationQuestion) -> Result<(), Error> {
        self.learn(question)
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Answer {
        question: "what a role may see of a table",
        problem: error.to_string(),
    })
}

#[derive(Deserialize)]
struct PolicyRow {
    name: String,
    permissive: bool,
    using: Option<String>,
}

impl PolicyRow {
    fn into_policy(self) -> DatabasePolicy {
        DatabasePolicy {
            name: self.name,
            is_permissive: self.permissive,
            using: self.using,
        }
    }
}

#[derive(Deserialize)]
struct FunctionRow {
    name: String,
    body: Option<String>,
    result: String,
    may_execute: bool,
}

impl FunctionRow {
    fn into_function(self) -> DatabaseFunction {
        DatabaseFunction {
            name: format!("auth.{}", self.name),
            body: self.body,
            result: self.result,
            may_execute: self.may_execute,
        }
    }
}

/// Asks what `check_enable_rls` and `get_policies_for_relation` of the server's source decide by. A policy is for a role
/// that has the privileges of one of the policy's roles. The search path is `pg_catalog` alone, so that functions,
/// operators and types of others are printed with their schemas. `$1` is the table, `$2` the role, `$3` the functions.
fn access_sql(version: u32) -> String {
    // Those in standard SQL, from 14 on, have no text of their own.
    let body = match version {
        140_000.. => "COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)",
        _ => "p.prosrc",
    };
    format!(
        "SELECT pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE'), \
             pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT'), \
             ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                 AND pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT') ORDER BY a.attnum), \
             {IS_RESTRICTED}, \
             (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object('name', p.polname, \
                 'permissive', p.polpermissive, 'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid)) \
                 ORDER BY p.polname), '[]')::text \
              FROM {POLICIES}), \
             (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object('name', p.proname, \
                 'body', CASE WHEN l.lanname = 'sql' AND p.prokind = 'f' AND NOT p.proretset AND NOT p.prosecdef \
                     AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s(setting) \
                         WHERE s.setting NOT LIKE 'search\\_path=%') THEN {body} END, \
                 'result', pg_catalog.format_type(p.prorettype, NULL), \
                 'may_execute', pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE')) \
                 ORDER BY p.proname), '[]')::text \
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
              JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
              WHERE n.nspname = 'auth' AND p.pronargs = 0 AND p.proname = ANY ($3)), \
             (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, \
                 pg_catalog.format_type(a.atttypid, NULL)) ORDER BY a.attnum), '[]')::text \
              FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM pg_catalog.pg_class c, pg_catalog.pg_roles r WHERE c.oid = $1 AND r.rolname = $2"
    )
}

/// True if row security is for the role `r` and the table `c`.
const IS_RESTRICTED: &str = "c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls \
    AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))";

/// The policies `p` of the table `c` for reading that apply to the role `r`.
const POLICIES: &str = "pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') \
    AND EXISTS (SELECT 1 FROM pg_catalog.unnest(p.polroles) f(role) \
        WHERE CASE f.role WHEN 0 THEN true ELSE pg_catalog.pg_has_role(r.oid, f.role, 'USAGE') END)";

/// Asks for one role of each kind that may read something of a table. `$1` is the table, `$2` the functions.
fn kinds_sql() -> String {
    format!(
        "SELECT pg_catalog.min(k.name) FROM ( \
             SELECT r.rolname::text, {IS_RESTRICTED}, ARRAY(SELECT p.oid FROM {POLICIES} ORDER BY p.oid), \
                 ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                     AND pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT') ORDER BY a.attnum), \
                 ARRAY(SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                     WHERE n.nspname = 'auth' AND p.pronargs = 0 AND p.proname = ANY ($2) \
                     AND pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE') ORDER BY p.oid) \
             FROM pg_catalog.pg_class c, pg_catalog.pg_roles r \
             WHERE c.oid = $1 AND r.rolname !~ '^pg_' \
                 AND pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE') \
                 AND pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT') \
         ) k(name, is_restricted, policies, columns, functions) \
         GROUP BY k.is_restricted, k.policies, k.columns, k.functions ORDER BY 1"
    )
}

/// Asks for everything that the answer to the above depends on, but for columns: the stream and the look at all tables
/// tell of these. `$1` are the functions.
const STATE: &str = "SELECT pg_catalog.hashtextextended(pg_catalog.concat_ws('/', \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin, p.polrelid, p.polname, p.polcmd, \
         p.polpermissive, p.polroles, p.polqual), ',' ORDER BY p.oid) FROM pg_catalog.pg_policy p), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, c.relnamespace, c.relowner, c.relrowsecurity, \
         c.relforcerowsecurity, c.relacl), ',' ORDER BY c.oid) FROM pg_catalog.pg_class c \
         WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.attacl), ',' \
         ORDER BY a.attrelid, a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attacl IS NOT NULL), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', n.oid, n.nspname, n.nspowner, n.nspacl), ',' ORDER BY n.oid) \
         FROM pg_catalog.pg_namespace n), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls), \
         ',' ORDER BY r.oid) FROM pg_catalog.pg_roles r), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', m.xmin, m.roleid, m.member), ',' \
         ORDER BY m.roleid, m.member, m.xmin::text) FROM pg_catalog.pg_auth_members m), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin, p.proacl), ',' ORDER BY p.oid) \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = 'auth' AND p.proname = ANY ($1))), 0)::text";
