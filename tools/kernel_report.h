// Which kernels and which of oneDNN's implementations run here, as text and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cpu/gemm/gemm_report.h"
#include "runtime/core/result.h"

namespace moraine::tools {

/// Every row of the kernel table, best first, with what it is for: "used", "not the best here" or why this
/// CPU cannot run it; then oneDNN's products. Errors as SelectKernels.
Result<nlohmann::ordered_json> KernelsJson(const std::string& isa);
/// The same as lines.
std::string KernelsText(const nlohmann::ordered_json& kernels);

/// {"share": of the arithmetic, "products": [{implementation, type, rows, depth, width, calls}], "refused":
/// []}.
nlohmann::ordered_json GemmJson(const GemmReport& report);

}  // namespace moraine::tools
