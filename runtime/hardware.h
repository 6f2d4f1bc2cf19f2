// Hardware: what runs here and how fast each of its resources is, each figure with where it comes from.
//
// Plain values, no I/O: runtime/hardware_read.h reads them from this machine, runtime/assumed_rates.h fills
// in what nobody measured, tools/measure.h measures, tools/stated_hardware.h states a machine that is not
// this one. Bytes, bytes a second and FLOP a second throughout, never GiB or GB. 0 and empty: not known, or
// not there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/quant_format.h"
#include "runtime/memory_limit.h"

namespace moraine {

enum class Origin : uint8_t {
  kMeasured,  // on this machine, by moraine
  kRead,      // the system says so
  kStated,    // the user says so
  kAssumed,   // nobody says so: a default, with its reason
};
/// "measured", "read", "stated", "assumed".
std::string_view Name(Origin origin);

struct Figure {
  double value = 0;
  Origin origin = Origin::kAssumed;
  std::string from;  // "measured 2026-11-25", "--nvme", "16 cores x 10 GB/s, at most 40 GB/s a node"
};

struct GpuDevice {
  std::string name;          // "NVIDIA GeForce RTX 4090"; of a card without a driver: "PCI 10de:2684"
  std::string pci;           // "0000:01:00.0"
  int64_t memory_bytes = 0;  // 0: not known
  int64_t free_bytes = 0;    // when it was read
  int pcie_generation = 0;   // the best that card and slot do together; 0: not known
  int pcie_width = 0;        // lanes of it
  int compute_major = 0;     // compute capability; 0: not known
  int compute_minor = 0;
  std::string driver;  // its version; empty: none runs, so that the card is of no use
  std::string from;    // "NVML", "/sys/bus/pci", "--vram"
};

enum class DriveKind : uint8_t { kUnknown, kNvme, kSsd, kDisk, kVirtual, kNetwork, kMemory };
/// "unknown", "nvme", "ssd", "disk", "virtual", "network", "memory" (tmpfs, RAM disk).
std::string_view Name(DriveKind kind);

/// What lies behind a path.
struct Drive {
  std::string path;    // that was asked for
  std::string device;  // whole drives, not partitions: "nvme0n1", "nvme0n1+nvme1n1" (md, dm); may be empty
  std::string model;   // as the drive states it, of the first
  std::string filesystem;  // "ext4"
  DriveKind kind = DriveKind::kUnknown;
  int devices = 0;               // physical drives behind it, 0 when not known
  std::optional<bool> direct;    // reads past the page cache work (O_DIRECT); empty: could not be tried
  std::optional<bool> io_uring;  // the system grants a ring to this process
  int64_t free_bytes = 0;        // for a user without privileges
  int64_t total_bytes = 0;
  std::string io_uring_refusal;    // why not
  std::vector<std::string> notes;  // what a reader of its rates should know: a host's cache behind it
  /// What figures measured on it are kept under: device, model and filesystem. Empty: not to be kept.
  std::string Key() const;
};

struct DepthRate {
  int depth = 0;  // chunks of 1 MiB under way
  double bytes_s = 0;
};

struct PrefillRate {
  int32_t rows = 0;  // of each expert
  Figure flops_s;
};

/// How fast routed experts of one stored format run on all workers together.
struct ExpertRate {
  std::string name;  // "fp8", "bf16", "int4-g64"
  WeightFormat format = WeightFormat::kBf16;
  int32_t group = 0;                 // columns of an FP8 block or integer scale; 0: no scales, or one a row
  Figure decode_bytes_s;             // stored bytes, scales included, at one row an expert
  std::vector<PrefillRate> prefill;  // ascending rows
};

struct Rates {
  Figure memory_read;                     // bytes/s, all workers of all nodes, each from its own node
  std::vector<Figure> node_memory;        // bytes/s of each node alone, in the order of Hardware::nodes
  Figure drive_read;                      // bytes/s past the page cache at the streamer's depth
  std::vector<DepthRate> drive_by_depth;  // empty unless measured
  Figure pcie;                            // bytes/s host to device; 0 without a GPU
  Figure vram_read;                       // bytes/s; 0 without a GPU
  std::vector<ExpertRate> experts;        // every format that FindExpertRate may be asked for
  Figure attention_flops;  // FLOP/s of attention at decode over a long cache: f32 scores and sums
};

struct HardwareNode {
  int os_index = 0;
  int cores = 0;  // that this process may use
  int64_t memory_bytes = 0;
};

struct Hardware {
  std::string cpu_model;  // "Intel(R) Xeon(R) Platinum 8481C"
  int packages = 0;       // sockets with cores that this process may use
  std::vector<HardwareNode> nodes;
  int cores = 0;             // that this process may use
  int hardware_threads = 0;  // of those cores
  double cpu_quota = 0;      // cores' worth of time its control group grants; 0: no limit
  int workers = 0;           // that run by default: one a core, no more than the quota
  int64_t l2_bytes = 0;      // of one core
  int64_t l3_bytes = 0;      // of one cache; see l3_caches
  int l3_caches = 0;
  std::string isa;                     // the best kernel row, as --isa names it
  Origin cpu_origin = Origin::kRead;   // kStated: a machine that is not this one
  MemoryLimit ram;                     // the ceiling over everything
  Figure ram_total;                    // as the kernel sees it (MemTotal)
  int64_t topology_memory_bytes = 0;   // as hwloc adds the nodes up
  std::string ram_note;                // where the two differ, or a group limits it; empty: nothing to say
  std::string transparent_huge_pages;  // "always", "madvise", "never"; empty: not known
  int64_t free_hugetlb_bytes = 0;
  std::optional<int64_t> memlock_bytes;  // limit on locked memory; empty: none
  std::vector<GpuDevice> gpus;
  Drive drive;  // behind the model's path
  Rates rates;
  std::vector<std::string> notes;  // what could not be read and why, one line each
  /// Same text, same figures: CPU model, cores, threads, workers, ISA and RAM in whole GiB.
  std::string fingerprint;
};

/// The fingerprint of the fields it is made of.
std::string Fingerprint(const Hardware& hardware);

/// The rate of `format` with scales for `group` columns; of the same format with the nearest group when that
/// one is not there. Null when the format has none.
const ExpertRate* FindExpertRate(const Rates& rates, WeightFormat format, int32_t group);

}  // namespace moraine
