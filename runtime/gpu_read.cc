#include "runtime/gpu_read.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include "runtime/core/handle.h"
#include "runtime/sys_file.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;

// NVML's interface as its documentation describes it, so that building needs nothing of NVIDIA's. Every call
// returns 0 when it went well.
extern "C" {
struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
struct NvmlPci {
  char bus_id_legacy[16];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned pci_device_id;
  unsigned pci_subsystem_id;
  char bus_id[32];
};
}
using NvmlDevice = void*;

struct LibraryTraits {
  using Value = void*;
  static Value Empty() { return nullptr; }
  static void Close(Value value) noexcept { dlclose(value); }
};

// The functions of NVML that are used; those a driver lacks are null.
class Nvml {
 public:
  // Null when there is no such library, or it is none; `why` says so.
  static std::unique_ptr<Nvml> Open(const std::string& name, std::string* why) {
    std::unique_ptr<Nvml> nvml(new Nvml);
    nvml->library_ = Handle<LibraryTraits>(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (nvml->library_.get() == nullptr) {
      *why = fmt::format("{} is not there", name);
      return nullptr;
    }
    nvml->Find("nvmlInit_v2", &nvml->init);
    nvml->Find("nvmlShutdown", &nvml->shutdown);
    nvml->Find("nvmlErrorString", &nvml->error_string);
    nvml->Find("nvmlSystemGetDriverVersion", &nvml->driver_version);
    nvml->Find("nvmlDeviceGetCount_v2", &nvml->count);
    nvml->Find("nvmlDeviceGetHandleByIndex_v2", &nvml->handle);
    nvml->Find("nvmlDeviceGetName", &nvml->name);
    nvml->Find("nvmlDeviceGetMemoryInfo", &nvml->memory);
    nvml->Find("nvmlDeviceGetPciInfo_v3", &nvml->pci);
    nvml->Find("nvmlDeviceGetMaxPcieLinkGeneration", &nvml->generation);
    nvml->Find("nvmlDeviceGetMaxPcieLinkWidth", &nvml->width);
    nvml->Find("nvmlDeviceGetCudaComputeCapability", &nvml->capability);
    if (nvml->init == nullptr || nvml->shutdown == nullptr || nvml->count == nullptr ||
        nvml->handle == nullptr) {
      *why = fmt::format("{} lacks functions of NVML", name);
      return nullptr;
    }
    if (const int error = nvml->init(); error != 0) {
      const char* text = nvml->error_string == nullptr ? nullptr : nvml->error_string(error);
      *why = fmt::format("NVML says: {}", text == nullptr ? fmt::format("error {}", error) : text);
      return nullptr;
    }
    nvml->ready_ = true;
    return nvml;
  }
  ~Nvml() {
    if (ready_) shutdown();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*handle)(unsigned, NvmlDevice*) = nullptr;
  int (*name)(NvmlDevice, char*, unsigned) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*pci)(NvmlDevice, NvmlPci*) = nullptr;
  int (*generation)(NvmlDevice, unsigned*) = nullptr;
  int (*width)(NvmlDevice, unsigned*) = nullptr;
  int (*capability)(NvmlDevice, int*, int*) = nullptr;

 private:
  Nvml() = default;
  template <typename Function>
  void Find(const char* symbol, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library_.get(), symbol));
  }

  Handle<LibraryTraits> library_;
  bool ready_ = false;
};

GpuDevice Describe(const Nvml& nvml, NvmlDevice device, const std::string& driver) {
  GpuDevice gpu;
  gpu.driver = driver;
  gpu.from = "NVML";
  std::array<char, 96> text{};
  if (nvml.name != nullptr && nvml.name(device, text.data(), text.size() - 1) == 0) gpu.name = text.data();
  NvmlMemory memory{};
  if (nvml.memory != nullptr && nvml.memory(device, &memory) == 0) {
    gpu.memory_bytes = static_cast<int64_t>(memory.total);
    gpu.free_bytes = static_cast<int64_t>(memory.free);
  }
  NvmlPci pci{};
  if (nvml.pci != nullptr && nvml.pci(device, &pci) == 0)
    gpu.pci = fmt::format("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device);
  unsigned number = 0;
  if (nvml.generation != nullptr && nvml.generation(device, &number) == 0)
    gpu.pcie_generation = static_cast<int>(number);
  if (nvml.width != nullptr && nvml.width(device, &number) == 0) gpu.pcie_width = static_cast<int>(number);
  if (nvml.capability == nullptr || nvml.capability(device, &gpu.compute_major, &gpu.compute_minor) != 0)
    gpu.compute_major = gpu.compute_minor = 0;
  return gpu;
}

// "16.0 GT/s PCIe" -> 4; 0 for what is not known.
int GenerationOf(const std::string& speed) {
  constexpr std::array kSpeeds = {2.5, 5.0, 8.0, 16.0, 32.0, 64.0};
  const double value = std::strtod(speed.c_str(), nullptr);
  const auto* const at = std::find(kSpeeds.begin(), kSpeeds.end(), value);
  return at == kSpeeds.end() ? 0 : static_cast<int>(at - kSpeeds.begin()) + 1;
}

// Display controllers of NVIDIA's, in the order of their addresses.
std::vector<GpuDevice> OnTheBus(const std::string& root) {
  std::vector<GpuDevice> gpus;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root + "/sys/bus/pci/devices", error)) {
    const fs::path& at = entry.path();
    if (FirstLine(at / "vendor") != "0x10de" || FirstLine(at / "class").substr(0, 4) != "0x03") continue;
    GpuDevice gpu;
    gpu.pci = at.filename();
    gpu.name = FieldOfFile(root + "/proc/driver/nvidia/gpus/" + gpu.pci + "/information", "Model");
    const std::string id = FirstLine(at / "device");
    if (gpu.name.empty()) gpu.name = fmt::format("PCI 10de:{}", id.size() > 2 ? id.substr(2) : "?");
    gpu.pcie_generation = GenerationOf(FirstLine(at / "max_link_speed"));
    gpu.pcie_width = std::atoi(FirstLine(at / "max_link_width").c_str());
    gpu.from = "/sys/bus/pci";
    gpus.push_back(std::move(gpu));
  }
  std::sort(gpus.begin(), gpus.end(), [](const GpuDevice& a, const GpuDevice& b) { return a.pci < b.pci; });
  return gpus;
}

}  // namespace

GpuList ReadGpus(const std::string& library, const std::string& root) {
  GpuList list;
  std::string why = "NVML was not asked";
  if (const auto nvml = library.empty() ? nullptr : Nvml::Open(library, &why)) {
    std::array<char, 96> driver{};
    if (nvml->driver_version == nullptr || nvml->driver_version(driver.data(), driver.size() - 1) != 0)
      driver[0] = '?';
    unsigned count = 0;
    if (nvml->count(&count) != 0) count = 0;
    why = "its driver does not show it";
    for (unsigned i = 0; i < count; ++i) {
      NvmlDevice device = nullptr;
      if (nvml->handle(i, &device) != 0) {
        list.notes.push_back(fmt::format("GPU {}: NVML counts it and does not give it", i));
        continue;
      }
      list.gpus.push_back(Describe(*nvml, device, driver.data()));
    }
  }
  if (!list.gpus.empty()) return list;
  list.gpus = OnTheBus(root);
  for (const GpuDevice& gpu : list.gpus) {
    list.notes.push_back(
        fmt::format("GPU {} at {} is of no use: no driver answers for it ({})", gpu.name, gpu.pci, why));
  }
  return list;
}

}  // namespace moraine
