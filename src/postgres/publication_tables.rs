//! The tables of publications, asked without waiting for any of them.

/// A table of a query: what each publication has of each table, as `pg_publication_tables` says it. Its columns are
/// `pubname`, `relid`, `schemaname`, `tablename`, and, since there are column lists and row filters (15), `attnames`, all
/// that are published, and `qual`, the row filter's tree. For version `version` of the server, by its number.
///
/// Since 16 the view itself locks all tables of a publication, one after another (`pg_get_publication_tables`). Whoever
/// asks it waits for every `ALTER TABLE` or `TRUNCATE` that runs or waits, also one that waits for ourselves: for the
/// lock that another connection of ours has of a table it takes a snapshot of. The server cannot see that as a
/// deadlock. So does `pg_get_expr`: `qual` is to be printed where the table is locked already.
#[must_use]
pub fn publication_tables(version: u32) -> String {
    if version < 150_000 {
        return "(SELECT t.pubname, c.oid AS relid, t.schemaname, t.tablename \
                 FROM pg_catalog.pg_publication_tables t \
                 JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname \
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename)"
            .to_owned();
    }
    let generated = match version {
        180_000.. => " OR p.pubgencols = 's' AND a.attgenerated = 's'",
        _ => "",
    };
    let schema_listed = |class: &str| {
        format!(
            "EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace s \
                     WHERE s.pnpubid = p.oid AND s.pnnspid = {class}.relnamespace)"
        )
    };
    let listed = |class: &str| {
        format!(
            "(EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r \
                      WHERE r.prpubid = p.oid AND r.prrelid = {class}.oid) OR {})",
            schema_listed(class)
        )
    };
    let ancestor_listed = format!(
        "c.relispartition AND EXISTS (SELECT 1 FROM pg_catalog.pg_partition_ancestors(c.oid) ancestor(relid) \
             JOIN pg_catalog.pg_class u ON u.oid = ancestor.relid AND u.oid <> c.oid WHERE {})",
        listed("u")
    );
    // Lists and filters count where the table itself is named, and neither its schema nor all tables are.
    format!(
        "(SELECT p.pubname, c.oid AS relid, n.nspname AS schemaname, c.relname AS tablename, \
             (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                  AND CASE WHEN named.prattrs IS NULL THEN a.attgenerated = ''{generated} \
                           ELSE a.attnum = ANY (named.prattrs) END) AS attnames, \
             named.prqual AS qual \
         FROM pg_catalog.pg_publication p \
         JOIN pg_catalog.pg_class c ON c.relkind IN ('r', 'p') AND pg_catalog.pg_relation_is_publishable(c.oid) \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_publication_rel named \
             ON named.prpubid = p.oid AND named.prrelid = c.oid AND NOT p.puballtables \
             AND NOT {schema_listed} \
         WHERE CASE WHEN p.puballtables AND p.pubviaroot THEN NOT c.relispartition \
                    WHEN p.puballtables THEN c.relkind = 'r' \
                    WHEN p.pubviaroot THEN {c_listed} AND NOT ({ancestor_listed}) \
                    ELSE c.relkind = 'r' AND ({c_listed} OR {ancestor_listed}) END)",
        c_listed = listed("c"),
        schema_listed = schema_listed("c"),
    )
}
