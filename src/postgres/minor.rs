//! [`remarks`]: the minor versions of Postgres that a server is better upgraded to before a role with `REPLICATION` is
//! given to walcast.

use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::error::Error;
use super::settings::Purpose;

/// The first version of each major one, as `server_version_num` has it, that loads as an output plugin only what
/// `output_plugin_libraries` lists. Before, a role with `REPLICATION` has the server load any library that is installed
/// there (CVE-2026-6471).
const LISTED_PLUGINS: [u32; 5] = [140_024, 150_019, 160_015, 170_011, 180_006];

/// Remarks on a server that keep `serve` from nothing.
///
/// # Errors
/// It cannot be reached.
pub fn remarks(info: &ConnInfo) -> Result<Vec<String>, Error> {
    let connection = Connection::connect(info, Purpose::Query)?;
    let version = connection.server_version_num();
    connection.close();
    Ok(remark(version).into_iter().collect())
}

fn remark(version: u32) -> Option<String> {
    let listed = LISTED_PLUGINS
        .into_iter()
        .find(|listed| listed / 10_000 == version / 10_000)?;
    let name = |version: u32| format!("{}.{}", version / 10_000, version % 10_000);
    (version < listed).then(|| {
        format!(
            "the server is {}: before {} a role with REPLICATION, as walcast's is, can have it load any library that is \
             installed there as an output plugin (CVE-2026-6471)\n    Upgrade Postgres to {} or later.",
            name(version),
            name(listed),
            name(listed)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_load_any_library_for_a_role_with_replication_are_told() {
        for (version, told) in [
            (140_023, Some("14.24")),
            (150_018, Some("15.19")),
            (150_019, None),
            (170_000, Some("17.11")),
            (180_006, None),
            (190_000, None),
            (0, None),
        ] {
            let remark = remark(version);
            let cure = told.map(|minor| format!("Upgrade Postgres to {minor} or later."));
            assert_eq!(remark.is_some(), told.is_some(), "{version}");
            assert!(
                cure.is_none_or(|cure| remark.is_some_and(|remark| remark.ends_with(&cure))),
                "{version}"
            );
        }
    }
}
