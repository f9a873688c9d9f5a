//! What the system knows of a process: memory, files and processor time, from Linux' `/proc`.
//!
//! Prometheus has names for these that every exporter uses, so that one dashboard fits all; they have no `relay_` before
//! them. What cannot be read, on another system or for want of rights, is absent.

use std::path::Path;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `/proc` counts time in these, on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of this process, read anew whenever they are asked for.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let own = Path::new("/proc/self");
        let status = std::fs::read_to_string(own.join("status")).unwrap_or_default();
        let stat = std::fs::read_to_string(own.join("stat")).unwrap_or_default();
        let open = std::fs::read_dir(own.join("fd")).ok().map(Iterator::count);
        #[expect(clippy::cast_precision_loss, reason = "figures for people and plots")]
        let figures = [
            (
                "resident_memory_bytes",
                "Resident memory",
                kib(&status, "VmRSS:").map(|bytes| bytes as f64),
            ),
            (
                "virtual_memory_bytes",
                "Virtual memory",
                kib(&status, "VmSize:").map(|bytes| bytes as f64),
            ),
            ("open_fds", "Open file descriptors", open.map(|open| open as f64)),
            ("max_fds", "File descriptors that may be open", most_files().map(|most| most as f64)),
            ("start_time_seconds", "When the process began, in seconds since 1970", begun(&stat)),
        ];
        for (name, help, figure) in figures {
            let Some(figure) = figure else { continue };
            let gauge = ConstGauge::new(figure);
            let name = format!("process_{name}");
            gauge.encode(encoder.encode_descriptor(&name, help, None, gauge.metric_type())?)?;
        }
        let Some(cpu) = processor_time(&stat) else { return Ok(()) };
        let counter = ConstCounter::new(cpu.as_secs_f64());
        let (name, help) = ("process_cpu_seconds", "Processor time used, by user and system");
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}

/// Resident memory in bytes, of what a `status` file of `/proc` is about.
pub fn resident_bytes(status: &Path) -> Option<u64> {
    kib(&std::fs::read_to_string(status).ok()?, "VmRSS:")
}

/// Processor time of what a `stat` file of `/proc` is about: a process, or a thread.
pub fn cpu_of(stat: &Path) -> Option<Duration> {
    processor_time(&std::fs::read_to_string(stat).ok()?)
}

/// A figure of a `status` file, in bytes.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn processor_time(stat: &str) -> Option<Duration> {
    let user: f64 = field(stat, 14)?.parse().ok()?;
    let system: f64 = field(stat, 15)?.parse().ok()?;
    Duration::try_from_secs_f64((user + system) / TICKS_PER_SECOND).ok()
}

/// When a process began, in seconds since 1970.
fn begun(stat: &str) -> Option<f64> {
    let ticks: f64 = field(stat, 22)?.parse().ok()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + ticks / TICKS_PER_SECOND)
}

/// A field of a `stat` file, counted from one as its manual does.
fn field(stat: &str, number: usize) -> Option<&str> {
    // The name in parentheses, which is the second, may hold spaces and parentheses.
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// How many files this process may have open; `None` when there is no limit, or nobody says.
pub fn most_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 12345 9 9";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(field(stat, 22), Some("12345"));
        assert_eq!((field("", 22), field("7 (a) S", 22), field(stat, 2)), (None, None, None));
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(kib("VmSize:\t 9 kB\nVmRSS:\t    2 kB\n", "VmRSS:"), Some(2048));
        assert_eq!(kib("VmRSS: many\n", "VmRSS:"), None);
    }
}
