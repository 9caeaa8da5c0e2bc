//! The admin listener: `/metrics`, `/health/live` and `/health/ready`.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::health::Readiness;
use crate::telemetry::Metrics;

/// The admin listener's routes.
pub fn admin(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    let ready = move || {
        let (state, remark) = (readiness.get(), readiness.remarks());
        async move {
            match state {
                Ok(()) => match remark {
                    None => (StatusCode::OK, "ready\n".to_owned()),
                    Some(remark) => (StatusCode::OK, format!("ready: {remark}\n")),
                },
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            }
        }
    };
    let metrics = move || {
        let text = metrics.render();
        async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response() }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(ready))
}
