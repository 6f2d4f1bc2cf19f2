#include "runtime/hardware.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdlib>

namespace moraine {

std::string_view Name(Origin origin) {
  switch (origin) {
    case Origin::kMeasured:
      return "measured";
    case Origin::kRead:
      return "read";
    case Origin::kStated:
      return "stated";
    case Origin::kAssumed:
      return "assumed";
  }
  return "assumed";
}

std::string_view Name(DriveKind kind) {
  switch (kind) {
    case DriveKind::kUnknown:
      return "unknown";
    case DriveKind::kNvme:
      return "nvme";
    case DriveKind::kSsd:
      return "ssd";
    case DriveKind::kDisk:
      return "disk";
    case DriveKind::kVirtual:
      return "virtual";
    case DriveKind::kNetwork:
      return "network";
    case DriveKind::kMemory:
      return "memory";
  }
  return "unknown";
}

std::string Drive::Key() const {
  if (device.empty()) return "";
  return fmt::format("{}, {}, {}", device, model.empty() ? "no model" : model, filesystem);
}

std::string Fingerprint(const Hardware& h) {
  // Whole GiB: what the kernel keeps of RAM for itself moves from boot to boot.
  return fmt::format("{}; {} package(s), {} node(s), {} core(s), {} thread(s), {} worker(s); {}; {:.0f} GiB",
                     h.cpu_model, h.packages, h.nodes.size(), h.cores, h.hardware_threads, h.workers, h.isa,
                     std::ceil(h.ram_total.value / 0x1p30));
}

const ExpertRate* FindExpertRate(const Rates& rates, WeightFormat format, int32_t group) {
  // One scale a row is the longest group of all.
  const auto length = [](int32_t g) { return g == 0 ? 16.0 : std::log2(g); };
  const ExpertRate* best = nullptr;
  for (const ExpertRate& rate : rates.experts) {
    if (rate.format != format) continue;
    const double off = std::abs(length(rate.group) - length(group));
    if (best == nullptr || off < std::abs(length(best->group) - length(group))) best = &rate;
  }
  return best;
}

}  // namespace moraine
