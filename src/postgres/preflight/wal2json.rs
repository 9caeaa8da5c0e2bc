//! Further requirements of wal2json, and its limits.

use std::time::Instant;

use super::super::connection::Connection;
use super::publications::{Filtered, Without};
use super::{Code, FoundTable, Inspection, LISTED, Severity, distinct};
use crate::event::quote_literal;
use crate::postgres::{Error, SlotName};

/// For how long a slot is tried to be made: whether the server has the plugin is known at once.
const PROBE: std::time::Duration = std::time::Duration::from_secs(1);

impl Inspection<'_> {
    /// The limits of wal2json that pgoutput does not have.
    pub(super) fn wal2json(&mut self) -> Result<(), Error> {
        let row = self
            .sql
            .select_one("preflight", "SELECT pg_catalog.getdatabaseencoding()", &[])?;
        let encoding: &str = row.get(0, "encoding")?;
        if encoding != "UTF8" && encoding != "SQL_ASCII" {
            self.blocks(
                Code::Encoding,
                format!("the database's encoding is {encoding}, which wal2json does not convert"),
                "Use --plugin pgoutput, or move the data to a database with ENCODING 'UTF8'.",
            );
        }
        if self.sql.server_version_num() < 150_000 {
            return Ok(());
        }
        let mut filtered: Vec<Filtered> = self.row_filters()?.into_iter().flatten().collect();
        // A table with filters in several publications is one.
        filtered.sort_by_key(|one| one.oid);
        filtered.dedup_by_key(|one| one.oid);
        let shown = distinct(filtered.iter().map(|one| one.shown_table.clone()).collect());
        if !filtered.is_empty() {
            let publications = self.publications.clone();
            let relisted = self.relistings(&publications, None, Without::Filter)?;
            let what = |tables: &str| {
                format!(
                    "row filters of publications are not applied by wal2json: {tables} would be delivered whole"
                )
            };
            let cure = |relisted: Vec<&str>| {
                format!(
                    "Use --plugin pgoutput, or publish without row filters:\n{}",
                    relisted.join("\n")
                )
            };
            let tables = filtered.iter().map(|one| {
                let own = relisted.iter().filter(|(oid, _)| *oid == one.oid);
                FoundTable {
                    table: one.table.clone(),
                    what: what(&one.shown_table),
                    cure: cure(own.map(|(_, sql)| &**sql).collect()),
                }
            });
            let tables = tables.collect();
            let shown: Vec<&str> = shown.iter().take(LISTED).map(String::as_str).collect();
            self.find(
                Severity::Blocks,
                Code::RowFilter,
                what(&shown.join(", ")),
                cure(relisted.iter().map(|(_, sql)| &**sql).collect()),
                tables,
            );
        }
        Ok(())
    }

    /// True if the server has the plugin and allows it: a temporary slot that goes with the session tells.
    pub(super) fn can_load_plugin(&mut self, session: &mut Connection) {
        let name = format!("walcast_check_{}", session.backend_pid());
        let Ok(name) = SlotName::new(name) else { return };
        let until = Instant::now() + PROBE;
        let plugin = self.wanted.plugin;
        let probed = session.probe_plugin(&name, plugin.as_str(), || Instant::now() < until);
        let Err(error) = probed else { return };
        match error.sqlstate() {
            // ERRCODE_UNDEFINED_FILE
            Some("58P01") => {
                let major = self.sql.server_version_num() / 10_000;
                self.blocks(
                    Code::PluginMissing,
                    format!("the server does not have the plugin {plugin}"),
                    format!("Install it on the server: apt-get install postgresql-{major}-{plugin}"),
                );
            }
            Some("42501") => {
                let listed = self
                    .sql
                    .select_one(
                        "preflight",
                        "SELECT pg_catalog.current_setting('output_plugin_libraries', true)",
                        &[],
                    )
                    .and_then(|row| row.get::<Option<String>>(0, "output_plugin_libraries"));
                // Without the setting it is a right of the role's that is missing.
                let Ok(Some(listed)) = listed else { return };
                let list: Vec<String> = listed
                    .split(',')
                    .map(|name| name.trim().trim_matches('"'))
                    .filter(|name| !name.is_empty())
                    .chain([plugin.as_str()])
                    .map(|name| quote_literal(name).trim_start().to_owned())
                    .collect();
                self.blocks(
                    Code::PluginNotAllowed,
                    format!("the server does not allow the plugin {plugin} (output_plugin_libraries)"),
                    format!(
                        "ALTER SYSTEM SET output_plugin_libraries = {};\nSELECT pg_reload_conf();",
                        list.join(", ")
                    ),
                );
            }
            // No slot is free, or something older still writes: that the plugin could not be loaded is not said.
            _ => {}
        }
    }
}
