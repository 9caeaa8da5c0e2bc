//! [`check_policies`]: the policies of a configuration that do not fit a database.

use super::{Catalog, ConnInfo, Error, Publication};
use crate::config::Access;
use crate::policy::{Misfit, Policies, misfits};

/// The policies that do not fit the published tables, in the order of the file. The publications exist. Blocking.
///
/// # Errors
/// The database does not answer.
pub fn check_policies(
    info: &ConnInfo,
    publications: &[Publication],
    access: &Access,
) -> Result<Vec<Misfit>, Error> {
    if access.policies.is_empty() {
        return Ok(Vec::new());
    }
    // A configuration whose conditions do not parse is refused when it is read.
    let policies = Policies::of(access).unwrap_or_default();
    let mut catalog = Catalog::new(info.clone());
    let published = catalog.tables(publications)?;
    misfits(access, &policies, &published, &mut catalog)
}
