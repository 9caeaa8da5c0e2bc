//! The standard variables of OpenTelemetry that choose where traces go, and which. Pure.

#[cfg(feature = "otlp")]
use std::ops::RangeInclusive;
#[cfg(feature = "otlp")]
use std::path::PathBuf;
#[cfg(feature = "otlp")]
use std::time::Duration;

/// The variables that name the collector, the one for traces alone first.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// The milliseconds that a time may have: an hour of them at most.
#[cfg(feature = "otlp")]
const MILLISECONDS: RangeInclusive<u64> = 1..=3_600_000;
#[cfg(feature = "otlp")]
const MILLISECONDS_CURE: &str = "write whole milliseconds, 3600000 (an hour) at most";
/// The most spans that may wait to be sent. Their places are made at once.
#[cfg(feature = "otlp")]
const MAX_QUEUE: u64 = 1_000_000;

/// The reason why traces cannot be sent as the environment asks for it.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TracesError {
    /// This program was built without them.
    #[error(
        "{0} is set, but this walcast was built without traces: use one that was built with `cargo build --features otlp`, or \
         unset the variable, or set OTEL_SDK_DISABLED=true"
    )]
    NotBuilt(&'static str),
    /// A variable has a value that cannot be used.
    #[error("{variable}={value} cannot be used: {cure}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The values that can.
        cure: &'static str,
    },
    /// A variable that may hold a secret has a value that cannot be used.
    #[error("{variable} cannot be used: {problem}")]
    Hidden {
        /// The variable.
        variable: &'static str,
        /// The problem with it.
        problem: String,
    },
    /// The thread or the exporter cannot be made.
    #[error("traces cannot be sent: {0}")]
    Exporter(String),
}

/// The choices of the environment.
#[cfg(feature = "otlp")]
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    /// The variable that names the collector, and the address.
    pub(super) endpoint: (&'static str, String),
    /// The share of traces that are recorded, from 0 to 1.
    pub(super) ratio: f64,
    /// The time that the collector has for one batch.
    pub(super) timeout: Duration,
    /// The most spans that wait to be sent.
    pub(super) queue: usize,
    /// A file with the certificates of the authorities that the collector's certificate has to come from.
    pub(super) roots: Option<PathBuf>,
}

/// The variable that names a collector, if one does, and traces are not switched off.
///
/// # Errors
/// A switch has a value that it does not know.
pub(super) fn wanted(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<&'static str>, TracesError> {
    let set = |name: &str| get(name).filter(|value| !value.is_empty());
    // Only this word switches it off, in any case of its letters, as the specification has it.
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let endpoint = ENDPOINTS.into_iter().find(|name| set(name).is_some());
    match (endpoint, set("OTEL_TRACES_EXPORTER").as_deref()) {
        (_, Some("none")) => Ok(None),
        (endpoint, None | Some("otlp")) => Ok(endpoint),
        (None, _) => Ok(None),
        (Some(_), Some(other)) => Err(TracesError::Value {
            variable: "OTEL_TRACES_EXPORTER",
            value: other.to_owned(),
            cure: "write otlp, or none",
        }),
    }
}

#[cfg(feature = "otlp")]
impl Settings {
    /// Reads the variables by `get`. `None` if traces are not asked for; an empty value counts as none.
    ///
    /// # Errors
    /// A variable has a value that cannot be used.
    pub(super) fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Settings>, TracesError> {
        let Some(variable) = wanted(get)? else {
            return Ok(None);
        };
        let first = |names: [&'static str; 2]| {
            let set = |name: &'static str| Some((name, get(name).filter(|value| !value.is_empty())?));
            names.into_iter().find_map(set)
        };
        let only = |names, value: &str, cure| match first(names) {
            Some((variable, other)) if other != value => Err(TracesError::Value {
                variable,
                value: other,
                cure,
            }),
            _ => Ok(()),
        };
        only(
            [
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            ],
            "http/protobuf",
            "traces are sent by http/protobuf, mostly to port 4318",
        )?;
        only(
            [
                "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
                "OTEL_EXPORTER_OTLP_COMPRESSION",
            ],
            "none",
            "traces are sent without compression: write none",
        )?;
        let number = |names, bounds: RangeInclusive<u64>, cure| -> Result<Option<u64>, TracesError> {
            let Some((variable, value)) = first(names) else {
                return Ok(None);
            };
            match value.trim().parse() {
                Ok(number) if bounds.contains(&number) => Ok(Some(number)),
                _ => Err(TracesError::Value {
                    variable,
                    value,
                    cure,
                }),
            }
        };
        let timeout = number(
            ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
            MILLISECONDS,
            MILLISECONDS_CURE,
        )?;
        let queue = number(
            ["OTEL_BSP_MAX_QUEUE_SIZE"; 2],
            1..=MAX_QUEUE,
            "write a whole number of spans from 1 to 1000000",
        )?;
        // The library reads it itself, and keeps silent about a value that it cannot read.
        number(["OTEL_BSP_SCHEDULE_DELAY"; 2], MILLISECONDS, MILLISECONDS_CURE)?;
        let roots = first([
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
        ]);
        Ok(Some(Settings {
            endpoint: (variable, get(variable).unwrap_or_default()),
            ratio: ratio(
                first(["OTEL_TRACES_SAMPLER"; 2]).map(|(_, value)| value),
                first(["OTEL_TRACES_SAMPLER_ARG"; 2]).map(|(_, value)| value),
            )?,
            timeout: Duration::from_millis(timeout.unwrap_or(10_000)),
            queue: usize::try_from(queue.unwrap_or(2048)).unwrap_or(usize::MAX),
            roots: roots.map(|(_, path)| path.into()),
        }))
    }
}

/// The share of traces that a sampler records. Traces begin here, so that a sampler by the parent is that of its root.
#[cfg(feature = "otlp")]
fn ratio(sampler: Option<String>, argument: Option<String>) -> Result<f64, TracesError> {
    let sampler = sampler.unwrap_or_else(|| "parentbased_always_on".to_owned());
    match sampler.strip_prefix("parentbased_").unwrap_or(&sampler) {
        "always_on" => Ok(1.0),
        "always_off" => Ok(0.0),
        "traceidratio" => {
            let Some(argument) = argument else { return Ok(1.0) };
            let ratio = argument.trim().parse().ok();
            ratio
                .filter(|ratio| (0.0..=1.0).contains(ratio))
                .ok_or(TracesError::Value {
                    variable: "OTEL_TRACES_SAMPLER_ARG",
                    value: argument,
                    cure: "write a share from 0 to 1, such as 0.1",
                })
        }
        _ => Err(TracesError::Value {
            variable: "OTEL_TRACES_SAMPLER",
            value: sampler,
            cure: "write always_on, always_off or traceidratio, or one of them behind parentbased_",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among<'v>(variables: &'v [(&'v str, &'v str)]) -> impl Fn(&str) -> Option<String> + 'v {
        move |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn traces_are_wanted_once_a_collector_is_named_and_nothing_switches_them_off() {
        const AT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let named = (AT, "http://collector:4318");
        for (variables, by) in [
            (&[named][..], Some(AT)),
            (&[], None),
            (&[(AT, "")], None),
            (&[("OTEL_TRACES_SAMPLER", "always_on")], None),
            (
                &[named, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/")],
                Some("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            ),
            (&[named, ("OTEL_SDK_DISABLED", "True")], None),
            (&[named, ("OTEL_SDK_DISABLED", "1")], Some(AT)),
            (&[named, ("OTEL_TRACES_EXPORTER", "none")], None),
            (&[("OTEL_TRACES_EXPORTER", "zipkin")], None),
        ] {
            assert_eq!(wanted(&among(variables)), Ok(by), "{variables:?}");
        }
        let other = [named, ("OTEL_TRACES_EXPORTER", "zipkin")];
        let words = wanted(&among(&other)).unwrap_err().to_string();
        assert_eq!(
            words,
            "OTEL_TRACES_EXPORTER=zipkin cannot be used: write otlp, or none"
        );
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn the_variables_are_followed_or_refused_in_words() {
        const AT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let read = |more: &[(&str, &str)]| {
            let variables = [&[AT], more].concat();
            Settings::read(&among(&variables)).map(Option::unwrap)
        };
        let plain = read(&[]).unwrap();
        assert_eq!(
            plain,
            Settings {
                endpoint: (AT.0, AT.1.to_owned()),
                ratio: 1.0,
                timeout: Duration::from_secs(10),
                queue: 2048,
                roots: None,
            }
        );
        let sampled = |sampler, argument: &str| {
            let variables = [
                ("OTEL_TRACES_SAMPLER", sampler),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ];
            read(&variables).map(|settings| settings.ratio)
        };
        for (sampler, argument, ratio) in [
            ("always_off", "", 0.0),
            ("parentbased_always_on", "0.5", 1.0),
            ("traceidratio", "0.5", 0.5),
            ("parentbased_traceidratio", "", 1.0),
        ] {
            assert_eq!(sampled(sampler, argument), Ok(ratio), "{sampler} {argument}");
        }
        for (variable, value) in [
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000000000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
        ] {
            let words = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(
                words.starts_with(&format!("{variable}={value} cannot be used: ")),
                "{words}"
            );
        }
        for argument in ["-1", "2", "NaN", "x"] {
            assert!(sampled("traceidratio", argument).is_err(), "{argument}");
        }
    }
}
