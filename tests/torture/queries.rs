//! Random live queries on the workload's tables.

use fastrand::Rng;
use serde_json::{Value, json};

/// A query of that name.
pub(crate) fn query(rng: &mut Rng, id: &str) -> Value {
    let table = *rng.choice(&["item", "item", "part", "entry", "account"]).unwrap();
    let mut query = json!({"id": id, "table": table});
    if rng.u32(0..8) > 0 {
        query["where"] = json!(condition(rng, table, 2));
    }
    if rng.u32(0..4) == 0 {
        query["columns"] = match table {
            "item" => rng
                .choice(&[json!(["n", "state"]), json!(["note"]), json!(["id"])])
                .unwrap()
                .clone(),
            "part" => json!(["v"]),
            "entry" => json!(["tag"]),
            _ => json!(["balance"]),
        };
    }
    // Of `entry` the log knows the key alone.
    if table == "entry" {
        query["undecided"] = json!("send");
        return query;
    }
    if rng.bool() {
        query["old"] = json!(true);
    }
    if rng.bool() {
        query["undecided"] = json!(rng.choice(&["refuse", "send", "withhold"]).unwrap());
    }
    query
}

fn condition(rng: &mut Rng, table: &str, depth: u32) -> String {
    if depth == 0 || rng.bool() {
        return simple(rng, table);
    }
    let left = condition(rng, table, depth - 1);
    let right = condition(rng, table, depth - 1);
    match rng.u32(0..4) {
        0 => format!("NOT ({left})"),
        1 => format!("({left}) OR ({right})"),
        _ => format!("({left}) AND ({right})"),
    }
}

fn simple(rng: &mut Rng, table: &str) -> String {
    let n = rng.i32(-40..60);
    let owner = rng.u32(1..6);
    let state = *rng.choice(&["open", "paid", "sent", "gone"]).unwrap();
    let of_table: &[String] = match table {
        "item" => &[
            format!("owner = {owner}"),
            format!("owner IN ({owner}, 2, 3)"),
            format!("state = '{state}'"),
            format!("state LIKE '{}%'", &state[..1]),
            format!("n > {n}"),
            format!("n BETWEEN {n} AND {}", n + 30),
            format!("price <= {n}.5"),
            "note IS NULL".into(),
            "price IS NOT NULL".into(),
            format!("id > {}", n * 50),
            "at > now()".into(),
            format!("at <= now() - interval '{} seconds'", n.abs()),
            format!("at BETWEEN now() - interval '{owner} minutes' AND now() + interval '5 seconds'"),
        ],
        "part" => &[
            format!("a < {n}"),
            format!("b = 'b{}'", owner - 1),
            format!("v >= {n}"),
            format!("b <> 'b1' AND v <> {n}"),
        ],
        "entry" => &[
            format!("worker = {}", owner - 1),
            format!("n > {}", n * 3),
            "n < 0".into(),
            format!("tag = 'tag {n}'"),
            "tag LIKE 'again%'".into(),
            "tag IS NOT NULL".into(),
        ],
        _ => &[format!("balance > {}", 900 + n), format!("id <= {owner}")],
    };
    rng.choice(of_table).unwrap().clone()
}
