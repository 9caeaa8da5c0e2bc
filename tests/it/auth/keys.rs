//! Keys that are fetched: they rotate, and their server fails, stalls, redirects and floods.

use super::{EVERYTHING, guarded, with_header};
use crate::support::eventually;
use crate::support::issuer::{Answer, Issuer, SigningKey, claims, set};

fn is_taken(walcast: &crate::support::Walcast, key: &SigningKey) -> bool {
    with_header(
        walcast,
        &format!("Bearer {}", key.token(&claims("ann", "customer"))),
    )
    .is_ok()
}

#[test]
fn keys_rotate_and_old_ones_go() {
    let guarded = guarded();
    let walcast = guarded.setup("jwks_refresh = \"1s\"", EVERYTHING).start();
    let two = SigningKey::new("two");
    assert!(is_taken(&walcast, &guarded.key) && !is_taken(&walcast, &two));
    guarded.issuer.answers(Answer::Keys(set(&[&two])));
    eventually("the new key is taken", || is_taken(&walcast, &two).then_some(()));
    assert!(!is_taken(&walcast, &guarded.key));
}

#[test]
fn a_token_with_an_unknown_key_has_the_keys_fetched_but_not_again_and_again() {
    let guarded = guarded();
    let walcast = guarded.setup("jwks_refresh = \"1h\"", EVERYTHING).start();
    let two = SigningKey::new("two");
    let asked = guarded.issuer.asked();
    for _ in 0..20 {
        assert!(!is_taken(&walcast, &two));
    }
    assert_eq!(
        guarded.issuer.asked(),
        asked,
        "the fetch of the start is not long ago"
    );
}

#[test]
fn whatever_goes_wrong_with_fetching_the_old_keys_stay() {
    let guarded = guarded();
    let walcast = guarded.setup("jwks_refresh = \"1s\"", EVERYTHING).start();
    let elsewhere = SigningKey::new("elsewhere");
    let other = Issuer::new(Answer::Keys(set(&[&elsewhere])));
    for (answer, reason) in [
        (Answer::Fails, "status"),
        (Answer::Redirects(other.address), "redirect"),
        (Answer::Floods, "size"),
        (Answer::Keys("nonsense".into()), "keys"),
        (Answer::Stalls, "timeout"),
    ] {
        guarded.issuer.answers(answer);
        let failures = format!("walcast_jwks_failures_total{{reason=\"{reason}\"}}");
        eventually(&failures, || {
            let (_, metrics) = walcast.get("/metrics");
            metrics.contains(&failures).then_some(())
        });
        assert!(
            is_taken(&walcast, &guarded.key) && !is_taken(&walcast, &elsewhere),
            "{reason}"
        );
    }
    assert_eq!(other.asked(), 0, "a redirect was followed");
    walcast.logs("the keys for tokens were not fetched: the old ones stay");
    guarded.issuer.answers(Answer::Keys(set(&[&guarded.key])));
    walcast.logs("the keys for tokens are fetched again");
}

#[test]
fn without_keys_it_starts_and_takes_nobody() {
    let guarded = guarded();
    guarded.issuer.answers(Answer::Fails);
    let walcast = guarded.setup("", EVERYTHING).start();
    let refused = with_header(&walcast, "Bearer x").err().unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    guarded.issuer.answers(Answer::Keys(set(&[&guarded.key])));
    eventually("keys were fetched", || {
        is_taken(&walcast, &guarded.key).then_some(())
    });
}
