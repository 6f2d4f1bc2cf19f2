// Values of JSON text as they are spelled: their order of members, their digits.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace moraine {

/// `text` is one valid JSON value (ParseJson took it), and what is given borrows from it. Linear in the text.

/// The value of member `name` of an object; nothing if there is none, or if `text` is no object.
std::optional<std::string_view> MemberText(std::string_view text, std::string_view name);

/// The elements of a list; none if `text` is no list.
std::vector<std::string_view> ElementTexts(std::string_view text);

}  // namespace moraine
