//! Facts about the machine, as far as they move figures.

use serde::{Deserialize, Serialize};

/// A machine, and the mood it was in when the run began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Model name of the processor, with family, model and stepping.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Nominal clock in MHz, as the kernel shows it; 0 if it does not.
    pub mhz: f64,
    /// Last-level cache, as the kernel writes it.
    pub cache: String,
    /// SIMD sets that matter for inference.
    pub simd: String,
    /// Hypervisor vendor, or empty.
    pub hypervisor: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of swap.
    pub swap: u64,
    /// Kernel release.
    pub kernel: String,
    /// Distribution.
    pub os: String,
    /// Frequency governor of the first core, or empty.
    pub governor: String,
    /// Transparent huge pages.
    pub huge_pages: String,
    /// Mitigations that cost system calls something.
    pub mitigations: String,
    /// Load average of the last minute, at start.
    pub load: f64,
    /// Compiler that built the harness and what it measures.
    pub rustc: String,
}

impl Machine {
    /// Reads it from /proc and /sys; what cannot be read stays empty.
    #[must_use]
    pub fn probe() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = |key| field(&cpuinfo, key);
        let meminfo = read("/proc/meminfo");
        let kib = |key| {
            let text = field(&meminfo, key);
            text.trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) << 10
        };
        let wanted = ["sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "asimd", "sve"];
        let flags = format!("{} {}", cpu("flags"), cpu("Features"));
        let has = |set: &&str| flags.split_whitespace().any(|flag| flag == *set);
        Self {
            cpu: format!(
                "{} (family {}, model {}, stepping {})",
                cpu("model name"),
                cpu("cpu family"),
                cpu("model"),
                cpu("stepping")
            ),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            mhz: cpu("cpu MHz").parse().unwrap_or(0.0),
            cache: cpu("cache size"),
            simd: wanted.iter().copied().filter(|set| has(set)).collect::<Vec<_>>().join(" "),
            hypervisor: if flags.contains("hypervisor") {
                "virtual machine".into()
            } else {
                String::new()
            },
            memory: kib("MemTotal"),
            swap: kib("SwapTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            os: os(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().into(),
            huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            mitigations: mitigations(),
            load: load(),
            rustc: rustc(),
        }
    }
}

/// Load average of the last minute.
#[must_use]
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Time that a hypervisor took from all cores, and all their time, in ticks since boot.
#[must_use]
pub fn stolen_ticks() -> (u64, u64) {
    let stat = read("/proc/stat");
    let line = stat.lines().next().unwrap_or("");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|n| n.parse().unwrap_or(0)).collect();
    (ticks.get(7).copied().unwrap_or(0), ticks.iter().take(8).sum())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, key: &str) -> String {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

fn os() -> String {
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("").trim_matches('"').to_owned()
}

/// The word in brackets of a kernel setting such as `always [madvise] never`.
fn chosen(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or_else(String::new, |(word, _)| word.to_owned())
}

fn mitigations() -> String {
    let Ok(dir) = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return String::new();
    };
    let mut active: Vec<_> = dir
        .filter_map(Result::ok)
        .filter(|entry| {
            std::fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("Mitigation"))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    active.sort();
    active.join(" ")
}

fn rustc() -> String {
    let asked = std::process::Command::new("rustc").arg("--version").output();
    asked.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let machine = Machine::probe();
        assert!(machine.memory > 0 && !machine.kernel.is_empty());
        assert_eq!(chosen("always [madvise] never"), "madvise");
    }
}
