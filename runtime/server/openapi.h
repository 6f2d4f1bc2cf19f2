// What the server serves, as an OpenAPI 3.1 document: openapi.json beside this file.
#pragma once

#include <string_view>

namespace moraine {

/// The file's text; static storage.
std::string_view OpenApiJson();

}  // namespace moraine
