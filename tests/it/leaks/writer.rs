//! Writes at random: rows that move between tenants, key changes, long values, truncates, savepoints, columns that come
//! and go.

use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use super::Ground;

static MARKERS: AtomicU64 = AtomicU64::new(1);

/// A text that nobody has written before.
fn marker() -> String {
    format!("M{}Z", MARKERS.fetch_add(1, Ordering::Relaxed))
}

/// The same, sometimes so long that it is stored apart.
fn long(rng: &mut Rng) -> String {
    let marker = marker();
    match rng.u32(0..3) {
        0 => format!(
            "'{marker}' || (SELECT string_agg(md5(random()::text || n), '') FROM generate_series(1, 150) n)"
        ),
        1 => "NULL".into(),
        _ => format!("'{marker}'"),
    }
}

fn statement(rng: &mut Rng, extra: bool) -> String {
    let tenant = rng.u32(1..5);
    let id = rng.u32(1..40);
    let room = rng.u32(1..9);
    match rng.u32(0..20) {
        0..5 => format!(
            "INSERT INTO doc (id, tenant, level, owner, title, body, sealed) VALUES ({id}, {tenant}, {}, 's{}', '{}', {}, {}) \
             ON CONFLICT (id) DO UPDATE SET title = excluded.title",
            rng.u32(0..6),
            rng.u32(0..4),
            marker(),
            long(rng),
            rng.bool()
        ),
        5 => format!("UPDATE doc SET tenant = {tenant} WHERE id = {id}"),
        6 => format!(
            "UPDATE doc SET title = '{}', sealed = NOT sealed WHERE id = {id}",
            marker()
        ),
        7 => format!(
            "UPDATE doc SET body = {} WHERE id < {id} AND tenant = {tenant}",
            long(rng)
        ),
        8 => format!(
            "UPDATE doc SET id = {}, title = '{}' WHERE id = {id}",
            1000 + rng.u32(0..100_000),
            marker()
        ),
        9 => format!(
            "UPDATE doc SET owner = 's{}', level = {} WHERE id % 7 = {}",
            rng.u32(0..4),
            rng.u32(0..6),
            id % 7
        ),
        10 => format!("DELETE FROM doc WHERE id = {id} OR id > 900 AND tenant = {tenant}"),
        11..14 => format!(
            "INSERT INTO room VALUES ({tenant}, {room}, '{}', {}) ON CONFLICT (tenant, id) DO UPDATE SET topic = excluded.topic",
            marker(),
            long(rng)
        ),
        14 => format!("UPDATE room SET topic = '{}' WHERE id = {room}", marker()),
        15 => format!(
            "UPDATE room SET tenant = {tenant} WHERE id = {room} AND tenant = {} \
             AND NOT EXISTS (SELECT FROM room r WHERE r.id = {room} AND r.tenant = {tenant})",
            rng.u32(1..5)
        ),
        16 => format!("DELETE FROM room WHERE id = {room}"),
        17 => format!(
            "INSERT INTO vault VALUES ({id}, '{}') ON CONFLICT (id) DO UPDATE SET content = excluded.content",
            marker()
        ),
        18 if extra => format!("UPDATE doc SET extra = '{}' WHERE id = {id}", marker()),
        _ if rng.u32(0..15) == 0 => format!("TRUNCATE {}", rng.choice(["doc", "room", "vault"]).unwrap()),
        _ => format!("UPDATE doc SET title = '{}' WHERE tenant = {tenant}", marker()),
    }
}

pub(super) fn write(ground: &Ground, number: usize, mut rng: Rng) {
    let mut connection = ground.guarded.database.connect();
    // One of the writers has the column come and go.
    let mut extra = false;
    while !ground.stop_writing.load(Ordering::SeqCst) {
        ground.goes_on();
        let sql = if number == 0 && rng.u32(0..120) == 0 {
            extra = !extra;
            if extra {
                "ALTER TABLE doc ADD COLUMN extra text".into()
            } else {
                "ALTER TABLE doc DROP COLUMN extra".into()
            }
        } else {
            let statements: Vec<String> = (0..rng.u32(1..5))
                .map(|_| statement(&mut rng, number == 0 && extra))
                .collect();
            let mut sql = statements.join("; ");
            if rng.u32(0..6) == 0 {
                sql = format!(
                    "{sql}; SAVEPOINT s; {}; ROLLBACK TO s; {}",
                    statement(&mut rng, false),
                    statement(&mut rng, false)
                );
            }
            let end = if rng.u32(0..10) == 0 { "ROLLBACK" } else { "COMMIT" };
            format!("BEGIN; {sql}; {end}")
        };
        // Two writers may be in each other's way: a deadlock, a key that is there.
        if connection.query(&sql).is_err() {
            connection.query("ROLLBACK").unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(rng.u64(5..50)));
    }
}
