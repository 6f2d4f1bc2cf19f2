#include "runtime/hardware_read.h"

#include <fmt/core.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "cpu/cpu_quota.h"
#include "cpu/kernel_table.h"
#include "cpu/topology.h"
#include "runtime/assumed_rates.h"
#include "runtime/drive_read.h"
#include "runtime/gpu_read.h"
#include "runtime/sys_file.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;

// "24689760 kB".
std::optional<int64_t> MemTotal(const std::string& root) {
  const std::string text = FieldOfFile(root + "/proc/meminfo", "MemTotal");
  const int64_t kib = std::atoll(text.c_str());
  return kib > 0 ? std::optional(kib * 1024) : std::nullopt;
}

// "always [madvise] never" -> "madvise".
std::string TransparentHugePages(const std::string& root) {
  const std::string line = FirstLine(root + "/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t begin = line.find('[');
  const size_t end = line.find(']');
  return begin == std::string::npos || end == std::string::npos ? ""
                                                                : line.substr(begin + 1, end - begin - 1);
}

// Over all page sizes: /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages.
int64_t FreeHugetlb(const std::string& root) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root + "/sys/kernel/mm/hugepages", error)) {
    const int64_t pages = std::atoll(FirstLine(entry.path() / "free_hugepages").c_str());
    const std::string name = entry.path().filename();
    const size_t dash = name.find('-');
    if (dash != std::string::npos) bytes += pages * std::atoll(name.c_str() + dash + 1) * 1024;
  }
  return bytes;
}

std::optional<int64_t> MemlockLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return static_cast<int64_t>(limit.rlim_cur);
}

std::string RamNote(const Hardware& h) {
  const auto gib = [](double bytes) { return bytes / 0x1p30; };
  const double kernel = h.ram_total.value;
  const auto topology = static_cast<double>(h.topology_memory_bytes);
  std::string note;
  if (topology > 0 && std::abs(kernel - topology) > 0.01 * kernel) {
    note = fmt::format("the kernel counts {:.1f} GiB, hwloc adds up {:.1f} GiB; the kernel's counts",
                       gib(kernel), gib(topology));
  }
  if (h.ram.source.compare(0, 6, "cgroup") == 0) {
    note += fmt::format("{}{} allows this process {:.1f} GiB of {:.1f} GiB", note.empty() ? "" : "; ",
                        h.ram.source, gib(static_cast<double>(h.ram.bytes)), gib(kernel));
  }
  return note;
}

void ReadProcessor(const Topology& topology, const std::string& root, Hardware* h) {
  const ProcessorFacts& facts = topology.processor();
  h->cpu_model = facts.model.empty() ? FieldOfFile(root + "/proc/cpuinfo", "model name") : facts.model;
  if (h->cpu_model.empty()) h->cpu_model = "unnamed processor";
  h->packages = std::max(1, facts.packages);
  for (const CpuNode& node : topology.nodes())
    h->nodes.push_back({node.os_index, static_cast<int>(node.cpus.size()), node.memory_bytes});
  h->cores = topology.cores();
  h->hardware_threads = facts.hardware_threads;
  const std::optional<double> quota = CpuQuota(root);
  h->cpu_quota = quota.value_or(0);
  h->workers = DefaultWorkers(topology, quota);
  h->l2_bytes = facts.l2_bytes;
  h->l3_bytes = facts.l3_bytes;
  h->l3_caches = facts.l3_caches;
  h->isa = Name(BestIsa());
  h->topology_memory_bytes = facts.memory_bytes;
}

}  // namespace

Result<Hardware> ReadHardware(const std::string& model_path, const HardwareSources& sources) {
  const std::string& root = sources.root;
  Hardware h;
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<Topology> topology, Topology::Read(sources.topology));
  ReadProcessor(*topology, root, &h);

  MORAINE_ASSIGN_OR_RETURN(h.ram, FindMemoryLimit(root));
  const std::optional<int64_t> total = MemTotal(root);
  if (!total) return Fail(ErrorKind::kHardware, "/proc/meminfo: no MemTotal line; is /proc mounted?");
  h.ram_total = {static_cast<double>(*total), Origin::kRead, "MemTotal"};
  h.ram_note = RamNote(h);
  h.transparent_huge_pages = TransparentHugePages(root);
  h.free_hugetlb_bytes = FreeHugetlb(root);
  h.memlock_bytes = MemlockLimit();

  GpuList gpus = ReadGpus(sources.nvml, root);
  h.gpus = std::move(gpus.gpus);
  h.notes = std::move(gpus.notes);
  if (!model_path.empty()) h.drive = ReadDrive(model_path, root);

  h.rates = AssumedRates(h);
  h.fingerprint = Fingerprint(h);
  return h;
}

}  // namespace moraine
