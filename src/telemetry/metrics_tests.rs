use super::*;

#[test]
fn metrics_render_with_prefix_labels_and_help() {
    let metrics = Metrics::new();
    metrics.table("public", "orders").insert.inc_by(3);
    metrics.error("bad_request");
    metrics.closed("1001");
    let text = metrics.render([]);
    assert!(
        text.contains(r#"walcast_changes_total{op="insert",schema="public",table="orders"} 3"#),
        "{text}"
    );
    assert!(
        text.contains(r#"walcast_errors_total{code="bad_request"} 1"#),
        "{text}"
    );
    assert!(text.contains("# HELP walcast_slot_lag_bytes "), "{text}");
}

#[test]
fn sources_are_told_apart_by_their_label_and_the_program_has_none() {
    let program = Metrics::of_program();
    let sources = ["orders", "stock"].map(Metrics::of_source);
    program.refused("address");
    sources[0].refused("origin");
    sources[1].replication_up.set(1);
    let text = program.render(sources.iter().map(Arc::as_ref));
    let of = |name: &str| -> Vec<&str> { text.lines().filter(|line| line.starts_with(name)).collect() };
    assert_eq!(
        of("walcast_connections_refused_total"),
        [
            r#"walcast_connections_refused_total{reason="address"} 1"#,
            r#"walcast_connections_refused_total{reason="origin",source="orders"} 1"#,
        ]
    );
    assert_eq!(
        of("walcast_replication_up"),
        [
            r#"walcast_replication_up{source="orders"} 0"#,
            r#"walcast_replication_up{source="stock"} 1"#,
        ]
    );
    assert_eq!(of("walcast_build_info").len(), 1);
    assert_eq!(of("# HELP walcast_limits_reached_total").len(), 1);
}

#[test]
fn each_limit_is_shown_from_the_start() {
    let metrics = Metrics::new();
    metrics.refused("address");
    let text = metrics.render([]);
    for limit in Limit::ALL {
        let reached = u8::from(limit == Limit::AddressConnections);
        let line = format!(
            "walcast_limits_reached_total{{limit=\"{}\"}} {reached}\n",
            limit.as_str()
        );
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[test]
fn a_position_beyond_half_of_all_is_shown_as_one() {
    let metrics = Metrics::new();
    metrics.received_lsn.set(0xF000_0000_0000_0000);
    let text = metrics.render([]);
    assert!(
        text.contains("\nwalcast_received_lsn 17293822569102705000\n"),
        "{text}"
    );
}
