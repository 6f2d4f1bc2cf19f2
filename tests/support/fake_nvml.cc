// A library that answers as NVML does for a machine with one RTX 4090, or as MORAINE_FAKE_NVML says: "none"
// (no GPU), "lost" (counts one and does not give it), "broken" (its driver is not loaded).
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

bool Acts(std::string_view as) {
  const char* mode = std::getenv("MORAINE_FAKE_NVML");
  return mode != nullptr && as == mode;
}

int device = 0;

}  // namespace

extern "C" {

int nvmlInit_v2() { return Acts("broken") ? 9 : 0; }
int nvmlShutdown() { return 0; }
const char* nvmlErrorString(int) { return "Driver Not Loaded"; }

int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  std::strncpy(text, "580.65.06", length);
  return 0;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = Acts("none") ? 0 : 1;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned, void** handle) {
  *handle = &device;
  return Acts("lost") ? 15 : 0;
}

int nvmlDeviceGetName(void*, char* text, unsigned length) {
  std::strncpy(text, "NVIDIA GeForce RTX 4090", length);
  return 0;
}

int nvmlDeviceGetMemoryInfo(void*, unsigned long long* total_free_used) {
  total_free_used[0] = 24ull << 30;
  total_free_used[1] = 23ull << 30;
  total_free_used[2] = 1ull << 30;
  return 0;
}

struct FakePci {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char bus_id[32];
};
int nvmlDeviceGetPciInfo_v3(void*, FakePci* pci) {
  *pci = {};
  pci->bus = 0x41;
  return 0;
}

int nvmlDeviceGetMaxPcieLinkGeneration(void*, unsigned* generation) {
  *generation = 4;
  return 0;
}

int nvmlDeviceGetMaxPcieLinkWidth(void*, unsigned* width) {
  *width = 8;
  return 0;
}

int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) {
  *major = 8;
  *minor = 9;
  return 0;
}
}
