//! The meaning of types, by OID.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::types::{Attnum, Attribute, Ctype};

/// Everything that is known of types. A type's OID keeps its meaning for as long as we run, except for a composite's
/// attributes and an enumeration's labels.
#[derive(Debug, Default)]
pub(super) struct Types {
    known: HashMap<u32, Facts>,
    composites: HashMap<u32, Composite>,
    labels: HashMap<u32, Labels>,
    /// The ctype of the database's own collation, by which `citext` compares; asked once there is such a type.
    default_ctype: Option<Ctype>,
    generation: u64,
}

/// A composite as `pg_attribute` has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Composite {
    attributes: Vec<FoundAttribute>,
    /// True if others were dropped.
    has_dropped: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct FoundAttribute {
    name: String,
    number: i16,
    type_oid: u32,
}

/// The labels of an enumeration, in their declared order, and their OIDs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Labels {
    labels: Vec<String>,
    oids: Vec<u32>,
}

/// A type as `pg_type` has it.
#[derive(Clone, Copy, Debug)]
struct Facts {
    nature: Nature,
    collatable: bool,
}

/// The parts that a type is made of. The server's own rules are those of `json_categorize_type`.
#[derive(Clone, Copy, Debug)]
enum Nature {
    Enum,
    /// A domain over this type.
    Domain(u32),
    /// A true array of this type; types like `point` have elements, too.
    Array(u32),
    Composite,
    /// A range or multirange over this type.
    Range(u32),
    /// A type that a function called `hstore_to_json` casts to `json`.
    Hstore,
    /// A type whose `=` is `citext_eq`.
    Citext,
    /// A type whose arrays separate their elements by this byte.
    Separated(u8),
    Other,
}

/// The depth to which domains, arrays and composites of one another are followed. The journal holds kinds as JSON,
/// whose reader follows 128 levels of it; a composite takes four.
const MAX_DEPTH: u32 = 24;

/// Types by their OIDs.
const FACTS: &str = "SELECT t.oid, \
                     CASE WHEN t.typtype = 'e' THEN 'enum' WHEN t.typtype = 'd' THEN 'domain' \
                          WHEN t.typtype = 'c' THEN 'composite' WHEN t.typtype IN ('r', 'm') THEN 'range' \
                          WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc THEN 'array' \
                          WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc \
                              WHERE c.castsource = t.oid AND c.casttarget = 'json'::pg_catalog.regtype \
                              AND p.prosrc = 'hstore_to_json') THEN 'hstore' \
                          WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode \
                              WHERE o.oprname = '=' AND o.oprleft = t.oid AND o.oprright = t.oid \
                              AND p.prosrc = 'citext_eq') THEN 'citext' \
                          WHEN t.typdelim <> ',' THEN 'separated' ELSE 'other' END, \
                     CASE t.typtype WHEN 'd' THEN t.typbasetype \
                          WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) \
                          WHEN 'm' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid) \
                          ELSE t.typelem END, \
                     t.typdelim, t.typcollation <> 0 \
                 FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1)";

impl Types {
    /// Reads the types that are not known yet, and what they are made of; composites and labels are always read again.
    /// A type that was dropped stays as it was last known.
    pub(super) fn load(
        &mut self,
        session: &mut Session,
        oids: impl Iterator<Item = u32>,
    ) -> Result<(), Error> {
        let mut wanted: Vec<u32> = oids.collect();
        let mut reached = HashSet::new();
        for _ in 0..MAX_DEPTH {
            wanted.retain(|oid| reached.insert(*oid));
            if wanted.is_empty() {
                break;
            }
            self.load_facts(session, &wanted)?;
            self.load_attributes(session, &wanted)?;
            self.load_labels(session, &wanted)?;
            self.load_default_ctype(session, &wanted)?;
            wanted = wanted.iter().flat_map(|oid| self.parts(*oid)).collect();
        }
        Ok(())
    }

    /// Reads the attributes of all composites and the labels of all enumerations again, and returns a number that grows
    /// whenever some of them changed.
    pub(super) fn generation(&mut self, session: &mut Session) -> Result<u64, Error> {
        let composites: Vec<u32> = self.composites.keys().copied().collect();
        self.load_attributes(session, &composites)?;
        let enums: Vec<u32> = self.labels.keys().copied().collect();
        self.load_labels(session, &enums)?;
        Ok(self.generation)
    }

    /// The number as of the last reading.
    pub(super) fn last_generation(&self) -> u64 {
        self.generation
    }

    fn load_facts(&mut self, session: &mut Session, oids: &[u32]) -> Result<(), Error> {
        let unknown: Vec<u32> = oids
            .iter()
            .copied()
            .filter(|oid| !self.known.contains_key(oid))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let rows = session.ask(|_| FACTS.to_owned(), &[(&unknown, PgType::OID_ARRAY)])?;
        for row in &rows {
            let part = row.get(2, "type that it is made of")?;
            let nature = match row.get(1, "nature of a type")? {
                "enum" => Nature::Enum,
                "domain" => Nature::Domain(part),
                "composite" => Nature::Composite,
                "range" => Nature::Range(part),
                "array" => Nature::Array(part),
                "hstore" => Nature::Hstore,
                "citext" => Nature::Citext,
                "separated" => Nature::Separated(row.get::<i8>(3, "array delimiter")?.cast_unsigned()),
                _ => Nature::Other,
            };
            let facts = Facts {
                nature,
                collatable: row.get(4, "collation")?,
            };
            self.known.insert(row.get(0, "type's OID")?, facts);
        }
        Ok(())
    }

    /// Reads the attributes of those of the types that are composites.
    fn load_attributes(&mut self, session: &mut Session, oids: &[u32]) -> Result<(), Error> {
        let is_composite = |oid: &&u32| matches!(self.nature(**oid), Some(Nature::Composite));
        let composites: Vec<u32> = oids.iter().filter(is_composite).copied().collect();
        if composites.is_empty() {
            return Ok(());
        }
        let sql = "SELECT t.oid, a.attname, a.atttypid, a.attisdropped, a.attnum FROM pg_catalog.pg_type t \
                 LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 \
                 WHERE t.oid = ANY ($1) ORDER BY t.oid, a.attnum";
        let rows = session.ask(|_| sql.to_owned(), &[(&composites, PgType::OID_ARRAY)])?;
        let mut found: HashMap<u32, Composite> = HashMap::new();
        for row in &rows {
            let composite = found.entry(row.get(0, "type's OID")?).or_default();
            // A composite can be without attributes.
            match row.get(2, "attribute's type")? {
                Some(_) if row.get(3, "attisdropped")? => composite.has_dropped = true,
                Some(type_oid) => composite.attributes.push(FoundAttribute {
                    name: row.get(1, "attribute")?,
                    number: row.get(4, "attnum")?,
                    type_oid,
                }),
                None => {}
            }
        }
        for (oid, composite) in found {
            let before = self.composites.insert(oid, composite);
            if before.is_some() && before.as_ref() != self.composites.get(&oid) {
                self.generation += 1;
            }
        }
        Ok(())
    }

    /// Reads the labels of those of the types that are enumerations.
    fn load_labels(&mut self, session: &mut Session, oids: &[u32]) -> Result<(), Error> {
        let is_enum = |oid: &&u32| matches!(self.nature(**oid), Some(Nature::Enum));
        let enums: Vec<u32> = oids.iter().filter(is_enum).copied().collect();
        if enums.is_empty() {
            return Ok(());
        }
        let sql = "SELECT t.oid, e.enumlabel, e.oid FROM pg_catalog.pg_type t \
                 LEFT JOIN pg_catalog.pg_enum e ON e.enumtypid = t.oid \
                 WHERE t.oid = ANY ($1) ORDER BY t.oid, e.enumsortorder";
        let rows = session.ask(|_| sql.to_owned(), &[(&enums, PgType::OID_ARRAY)])?;
        let mut found: HashMap<u32, Labels> = HashMap::new();
        for row in &rows {
            let labels = found.entry(row.get(0, "type's OID")?).or_default();
            // An enumeration can be without labels.
            if let Some(oid) = row.get(2, "label's OID")? {
                labels.labels.push(row.get(1, "label")?);
                labels.oids.push(oid);
            }
        }
        for (oid, labels) in found {
            let before = self.labels.insert(oid, labels);
            if before.is_some() && before.as_ref() != self.labels.get(&oid) {
                self.generation += 1;
            }
        }
        Ok(())
    }

    /// Asks for the ctype of the database, which never changes, if one of the types needs it.
    fn load_default_ctype(&mut self, session: &mut Session, oids: &[u32]) -> Result<(), Error> {
        let is_citext = |oid: &u32| matches!(self.nature(*oid), Some(Nature::Citext));
        if self.default_ctype.is_some() || !oids.iter().any(is_citext) {
            return Ok(());
        }
        let rows = session.ask(
            |version| {
                format!(
                    "SELECT {} FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
                    ctypes::of_database(version)
                )
            },
            &[],
        )?;
        let name = rows
            .first()
            .map(|row| row.get::<Option<&str>>(0, "ctype"))
            .transpose()?;
        self.default_ctype = Some(ctypes::read(name.flatten()));
        Ok(())
    }

    fn nature(&self, oid: u32) -> Option<Nature> {
        self.known.get(&oid).map(|facts| facts.nature)
    }

    /// The types that a type is made of.
    fn parts(&self, oid: u32) -> Vec<u32> {
        match self.nature(oid) {
            Some(Nature::Domain(part) | Nature::Array(part) | Nature::Range(part)) => vec![part],
            Some(Nature::Composite) => {
                let composite = self.composites.get(&oid);
                let attributes = composite.map(|composite| &composite.attributes);
                attributes.into_iter().flatten().map(|a| a.type_oid).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The meaning of the type's text.
    pub(super) fn kind(&self, oid: u32) -> Kind {
        self.kind_within(oid, MAX_DEPTH)
    }

    fn kind_within(&self, oid: u32, depth: u32) -> Kind {
        if let Some(kind) = Kind::of_builtin(oid) {
            return kind;
        }
        let Some(nature) = self.nature(oid).filter(|_| depth > 0) else {
            return Kind::Other;
        };
        let part = |oid| self.kind_within(oid, depth - 1);
        match nature {
            Nature::Enum => {
                let known = self.labels.get(&oid);
                Kind::Enum {
                    labels: known.map(|known| known.labels.clone()).unwrap_or_default(),
                    oids: known.map(|known| known.oids.clone()).unwrap_or_default(),
                    is_domain: false,
                }
            }
            Nature::Domain(base) => part(base).into_domain(),
            Nature::Array(element) => Kind::Array(Box::new(part(element))),
            Nature::Composite => {
                let Some(composite) = self.composites.get(&oid) else {
                    return Kind::Other;
                };
                let attribute = |found: &FoundAttribute| Attribute {
                    name: found.name.clone(),
                    attnum: Attnum::new(found.number),
                    kind: part(found.type_oid),
                };
                Kind::Composite {
                    attributes: composite.attributes.iter().map(attribute).collect(),
                    only_grew: !composite.has_dropped,
                }
            }
            Nature::Range(bound) => match part(bound) {
                bound if bound.has_labels() => Kind::Range(Box::new(bound)),
                _ => Kind::Other,
            },
            Nature::Hstore => Kind::Hstore,
            Nature::Citext => Kind::Citext(self.default_ctype.clone().unwrap_or_default()),
            Nature::Separated(delimiter) => Kind::Separated(delimiter),
            Nature::Other => Kind::Other,
        }
    }

    /// The names of types with their modifiers. A dropped type's is `???`, as the server has it.
    pub(super) fn names(&self, session: &mut Session, types: &[(u32, i32)]) -> Result<Vec<String>, Error> {
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "SELECT pg_catalog.format_type(t.oid, t.typmod) \
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY t(oid, typmod, at) ORDER BY t.at";
        let (oids, typmods): (Vec<u32>, Vec<i32>) = types.iter().copied().unzip();
        let parameters: [Parameter<'_>; 2] = [(&oids, PgType::OID_ARRAY), (&typmods, PgType::INT4_ARRAY)];
        let rows = session.ask(|_| sql.to_owned(), &parameters)?;
        rows.iter()
            .map(|row| Ok(unqualified(row.get(0, "type")?)))
            .collect()
    }

    /// The least that holds for a column whose collation cannot be asked for any more: where no collation is
    /// nondeterministic, its was not. Whether there is one is asked once, and kept in `exists`.
    pub(super) fn unknown_collation(
        &self,
        session: &mut Session,
        oid: u32,
        exists: &mut Option<bool>,
    ) -> Result<Collation, Error> {
        match self.known.get(&oid) {
            Some(facts) if !facts.collatable => return Ok(Collation::None),
            None => return Ok(Collation::Nondeterministic),
            Some(_) => {}
        }
        let sql = "SELECT 1 FROM pg_catalog.pg_collation WHERE NOT collisdeterministic LIMIT 1";
        let exists = match exists {
            Some(exists) => *exists,
            none => *none.insert(!session.ask(|_| sql.to_owned(), &[])?.is_empty()),
        };
        Ok(if exists {
            Collation::Nondeterministic
        } else {
            Collation::Deterministic
        })
    }
}

/// The name of a type as an application's session has it, to which those of the schema `public` are visible.
pub(super) fn unqualified(name: &str) -> String {
    name.strip_prefix("public.").unwrap_or(name).to_owned()
}
