//! One metric, and a page of many as Prometheus reads it.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

/// The page of these figures.
pub(crate) fn render(figures: Vec<Figure>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(figures)));
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = text::encode(&mut out, &registry);
    out
}

type Labels = Vec<(&'static str, String)>;

/// One metric with all its label values, as of now.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    help: &'static str,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
}

impl Figure {
    /// A counter without labels; its name is without `_total`.
    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, values: Values::Counter(vec![(Vec::new(), value)]) }
    }

    /// A counter by labels.
    pub(crate) fn counters<const N: usize>(
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
    ) -> Self {
        let values = values.into_iter().map(|(labels, value)| (labels.into(), value)).collect();
        Self { name, help, values: Values::Counter(values) }
    }

    /// A gauge without labels.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, values: Values::Gauge(vec![(Vec::new(), value)]) }
    }

    /// A gauge by labels.
    pub(crate) fn gauges<const N: usize>(
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) -> Self {
        let values = values.into_iter().map(|(labels, value)| (labels.into(), value)).collect();
        Self { name, help, values: Values::Gauge(values) }
    }
}

#[derive(Debug)]
struct Figures(Vec<Figure>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Figure { name, help, values } in &self.0 {
            let kind = match values {
                Values::Counter(_) => MetricType::Counter,
                Values::Gauge(_) => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            match values {
                Values::Counter(values) => {
                    for (labels, value) in values {
                        if labels.is_empty() {
                            metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                        } else {
                            metric
                                .encode_family(labels)?
                                .encode_counter::<NoLabelSet, _, u64>(value, None)?;
                        }
                    }
                }
                Values::Gauge(values) => {
                    for (labels, value) in values {
                        if labels.is_empty() {
                            metric.encode_gauge(value)?;
                        } else {
                            metric.encode_family(labels)?.encode_gauge(value)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
