#include "tools/reply_printer.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tools/kernel_report.h"

namespace moraine::tools {
namespace {

double HitRate(const Generated& g) {
  const int64_t uses = g.decode_hits + g.decode_misses;
  return uses == 0 ? 1.0 : static_cast<double>(g.decode_hits) / static_cast<double>(uses);
}

double Rate(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

// Decode rates are of the tokens after the first, which prefill yields.
int64_t DecodedTokens(const Generated& g) {
  return std::max<int64_t>(0, static_cast<int64_t>(g.tokens.size()) - 1);
}

int64_t PerToken(int64_t bytes, int64_t tokens) { return tokens > 0 ? bytes / tokens : 0; }

std::string Bytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1000000000) return fmt::format("{:.2f} GB", value / 1e9);
  if (bytes >= 1000000) return fmt::format("{:.2f} MB", value / 1e6);
  if (bytes >= 1000) return fmt::format("{:.1f} kB", value / 1e3);
  return fmt::format("{} B", bytes);
}

}  // namespace

ReplyPrinter::ReplyPrinter() : colour_(isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr) {}

void ReplyPrinter::Enter(Part part) {
  if (part_ == part) return;
  if (line_open_) fmt::print("\n");
  line_open_ = false;
  // A reply without thinking needs no headings.
  if (part == Part::kThinking) fmt::print("{}--- thinking ---\n", colour_ ? "\033[2m" : "");
  if (part == Part::kAnswer && part_ == Part::kThinking)
    fmt::print("--- answer ---\n{}", colour_ ? "\033[0m" : "");
  part_ = part;
}

void ReplyPrinter::Show(const ThinkChunk& chunk) {
  for (const auto& [part, text] :
       {std::pair{Part::kThinking, &chunk.reasoning}, std::pair{Part::kAnswer, &chunk.answer}}) {
    std::string_view shown = *text;
    // The template's blank lines between the two parts are the heading's business.
    if (part_ != part) {
      while (!shown.empty() && shown.front() == '\n') shown.remove_prefix(1);
    }
    if (shown.empty()) continue;
    Enter(part);
    fmt::print("{}", shown);
    line_open_ = shown.back() != '\n';
  }
  std::fflush(stdout);
}

void ReplyPrinter::Finish() {
  fmt::print("{}{}", line_open_ ? "\n" : "", colour_ && part_ == Part::kThinking ? "\033[0m" : "");
  std::fflush(stdout);
  part_ = Part::kNone;
  line_open_ = false;
}

std::string Figures(const Reply& reply, uint64_t seed) {
  const Generated& g = reply.generated;
  const int64_t decoded = DecodedTokens(g);
  const int64_t computed = g.prompt_tokens - reply.reused_tokens;
  std::string reused =
      reply.reused_tokens > 0 ? fmt::format(" ({} from the cache)", reply.reused_tokens) : "";
  const std::string hits =
      g.decode_misses > 0 ? fmt::format(" ({:.1f} % of experts were in RAM)", 100 * HitRate(g)) : "";
  return fmt::format(
      "{} prompt tokens{} at {:.1f} tok/s, {} generated at {:.1f} tok/s; read per token: VRAM 0 B, RAM {}, "
      "NVMe {}{}; seed {}, {}",
      g.prompt_tokens, reused, Rate(computed, g.prefill_seconds), g.tokens.size(),
      Rate(decoded, g.decode_seconds), Bytes(PerToken(g.decode_ram_bytes, decoded)),
      Bytes(PerToken(g.decode_nvme_bytes, decoded)), hits, seed, Name(g.reason));
}

RunFigures MeasuredFigures(const Reply& reply) {
  const Generated& g = reply.generated;
  const int64_t decoded = DecodedTokens(g);
  return {.decode_tok_s = Rate(decoded, g.decode_seconds),
          .prefill_tok_s = Rate(g.prompt_tokens - reply.reused_tokens, g.prefill_seconds),
          .hit_rate = HitRate(g),
          .nvme_bytes_per_token = static_cast<double>(PerToken(g.decode_nvme_bytes, decoded)),
          .decode_token = g.decode_parts / static_cast<double>(decoded),
          .prefill_token = g.prefill_parts / static_cast<double>(g.prompt_tokens - reply.reused_tokens)};
}

std::string ReplyJson(const Reply& reply, uint64_t seed, const GemmReport& gemm,
                      const std::optional<Prediction>& prediction) {
  const Generated& g = reply.generated;
  const int64_t decoded = DecodedTokens(g);
  const RunFigures figures = MeasuredFigures(reply);
  nlohmann::ordered_json json;
  json["schema"] = 1;
  json["text"] = reply.text;
  json["reasoning"] = reply.reasoning;
  json["ids"] = g.tokens;
  json["finish_reason"] = Name(g.reason);
  json["prompt_tokens"] = g.prompt_tokens;
  json["completion_tokens"] = g.tokens.size();
  json["prefill_tok_s"] = Rate(g.prompt_tokens - reply.reused_tokens, g.prefill_seconds);
  json["decode_tok_s"] = Rate(decoded, g.decode_seconds);
  json["bytes_per_token"] = {{"vram", 0},
                             {"ram", PerToken(g.decode_ram_bytes, decoded)},
                             {"nvme", PerToken(g.decode_nvme_bytes, decoded)}};
  json["hit_rate"] = HitRate(g);
  json["seed"] = seed;
  json["predicted"] = prediction ? PredictionJson(*prediction) : nlohmann::ordered_json::object();
  json["measured"] = {{"prefill_s", g.prefill_seconds},
                      {"decode_s", g.decode_seconds},
                      {"decode_token", PartsJson(figures.decode_token)},
                      {"prefill_token", PartsJson(figures.prefill_token)}};
  json["gemm"] = GemmJson(gemm);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace moraine::tools
