// The page of `serve --ui`: a chat and how the tiers are used, in one file (page.html) that asks for nothing
// else from anywhere.
#pragma once

#include <string>
#include <string_view>

#include "runtime/server/http/http_server.h"

namespace moraine {

/// The page as it lies in page.html.
extern const std::string_view kPageHtml;

/// The page with headers that let a browser run its script and style, by their hashes, and nothing else: no
/// other script, no frame around it, no request to another server. Any thread.
HttpResponse PageResponse();

/// Content-Security-Policy for `html`, whose one <style> and one <script> block have no attributes.
std::string PagePolicy(std::string_view html);

}  // namespace moraine
