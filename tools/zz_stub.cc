#include "tools/hardware_cache.h"
#include "tools/measure.h"
#include "tools/stated_hardware.h"
namespace moraine::tools {
std::string HardwareCachePath() { return ""; }
CachedRates LoadHardwareCache(const std::string&, const std::string&) { return {}; }
Status SaveHardwareCache(const std::string&, const MeasuredRates&) { return {}; }
Result<MeasuredRates> MeasureHardware(const Hardware&, const std::string&, const MeasureOptions&) { return MeasuredRates{}; }
bool ApplyMeasured(const MeasuredRates&, Hardware*) { return true; }
void AddStatedHardwareFlags(CLI::App&, StatedHardware*, StatedFlags) {}
Status ApplyStatedHardware(const StatedHardware&, Hardware*) { return {}; }
}
