//! [`Traces`]: the sending of spans to a collector, from a thread of its own. Nobody waits for the
//! collector, and no more spans are kept than the queue has places for; the others are dropped, and counted.

mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor,
};
use parking_lot::Mutex;
use prometheus::IntCounter;

use self::client::{Client, Problem};
use super::TracesError;
use super::environment::Settings;
use super::span::record_by;
use crate::telemetry::{Failures, Metrics};

/// The time that the last spans get to be sent when walcast stops.
const LAST: Duration = Duration::from_secs(1);
/// The name of this program among others, unless the environment has another one.
const SERVICE: &str = "walcast";

/// The sending of traces.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends traces from now on, if the environment names a collector.
    ///
    /// # Errors
    /// A variable has a value that cannot be used, or there is no thread left.
    pub fn start(metrics: &Metrics) -> Result<Traces, TracesError> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(settings) = Settings::read(&variable)? else {
            return Ok(Traces(None));
        };
        if settings.ratio == 0.0 {
            tracing::info!(event = "traces_off", "no traces are sent: the sampler takes none");
            return Ok(Traces(None));
        }
        let (named_by, address) = &settings.endpoint;
        let problem = Arc::new(Problem::default());
        let client =
            Client::new(address, &settings, Arc::clone(&problem)).map_err(|problem| TracesError::Hidden {
                variable: named_by,
                problem,
            })?;
        let collector = client.authority().to_owned();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| TracesError::Exporter(error.to_string()))?;
        let counts = Counts {
            queued: Arc::default(),
            sent: metrics.trace_spans_sent.clone(),
            unsent: metrics.spans_dropped("unsent"),
            overflowed: metrics.spans_dropped("queue"),
        };
        let exporter = Exporter {
            exporter,
            counts: counts.clone(),
            warned: Mutex::default(),
            problem,
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue)
            .build();
        let processor = Bounded {
            processor: BatchSpanProcessor::new(exporter, config),
            most: settings.queue,
            counts,
        };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                settings.ratio,
            ))))
            .with_resource(resource())
            .build();
        record_by(provider.tracer(SERVICE));
        tracing::info!(
            event = "traces_started",
            collector,
            ratio = settings.ratio,
            "traces are sent to the collector"
        );
        Ok(Traces(Some(provider)))
    }

    /// Sends what is left, if the collector takes it within a second.
    pub async fn stop(self) {
        let Some(provider) = self.0 else { return };
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST)).await;
        if let Ok(Err(error)) = stopped {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

/// This program, as collectors tell it from others.
fn resource() -> Resource {
    let is_named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|list| {
            let mut keys = list.split(',').filter_map(|pair| pair.split_once('='));
            keys.any(|(key, _)| key.trim() == "service.name")
        });
    let resource =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if is_named {
        resource.build()
    } else {
        resource.with_service_name(SERVICE).build()
    }
}

/// The spans on their way, and what became of others.
#[derive(Clone, Debug)]
struct Counts {
    queued: Arc<AtomicUsize>,
    sent: IntCounter,
    unsent: IntCounter,
    overflowed: IntCounter,
}

/// The queue of spans, which drops and counts those that have no place.
#[derive(Debug)]
struct Bounded {
    processor: BatchSpanProcessor,
    most: usize,
    counts: Counts,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let queued = &self.counts.queued;
        let place = queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            (queued < self.most).then_some(queued + 1)
        });
        match place {
            Ok(_) => self.processor.on_end(span),
            Err(_) => self.counts.overflowed.inc(),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Sends batches of spans, and says now and then that it cannot.
#[derive(Debug)]
struct Exporter {
    exporter: opentelemetry_otlp::SpanExporter,
    counts: Counts,
    warned: Mutex<Warned>,
    problem: Arc<Problem>,
}

/// The warnings so far.
#[derive(Debug, Default)]
struct Warned {
    failures: Failures,
    /// The number of spans without a place that the log was told.
    overflowed: u64,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.counts.queued.fetch_sub(spans, Ordering::Relaxed);
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) => self.counts.sent.inc_by(spans as u64),
            Err(error) => {
                self.counts.unsent.inc_by(spans as u64);
                let words = self.problem.take().unwrap_or_else(|| error.to_string());
                self.warn(&words);
            }
        }
        let overflowed = self.counts.overflowed.get();
        let told = std::mem::replace(&mut self.warned.lock().overflowed, overflowed);
        if overflowed > told {
            self.warn("there are more than the queue has places for (OTEL_BSP_MAX_QUEUE_SIZE)");
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Exporter {
    fn warn(&self, words: &str) {
        let again = self.warned.lock().failures.note(words, 0, Instant::now()).now;
        if let Some(again) = again {
            let dropped = self.counts.unsent.get() + self.counts.overflowed.get();
            tracing::warn!(
                event = "traces_dropped",
                error = words,
                dropped,
                again,
                "spans were not sent to the collector, and are dropped"
            );
        }
    }
}
