// bench_tokenizer: how fast text becomes ids on one thread, beside how fast it can be read at all.
//
//   bench_tokenizer MODEL FILE... [--document BYTES] [--rounds N] [--peer MB/s] [--json]
//
// Speeds are of processor time, so that a busy machine does not blur them.
// bound: one pass over the text that only checks it is UTF-8. peer: what another tokenizer reached on the
// same text, given by hand or by tools/oracle/text/bench_peer.py, which runs PyPI `tokenizers` in turn with
// this program.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>

#include "runtime/core/file.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tools/bench/bench_main.h"
#include "tools/commands.h"

namespace moraine::tools {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> files;
  size_t document = 16384;
  int rounds = 5;
  double peer = 0;
  bool json = false;
};

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// `text` in documents of at least `size` bytes, cut before the next code point.
std::vector<std::string_view> Documents(std::string_view text, size_t size) {
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    size_t end = std::min(size, text.size());
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    documents.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return documents;
}

// Megabytes (10^6) a second of `work` over `bytes`: the median of the rounds.
double Speed(int rounds, size_t bytes, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) {
    const double start = CpuSeconds();
    work();
    seconds.push_back(std::max(CpuSeconds() - start, 1e-9));
  }
  std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
  return static_cast<double>(bytes) / 1e6 / seconds[static_cast<size_t>(rounds / 2)];
}

Status Run(const Options& options) {
  const double start = CpuSeconds();
  const bool is_file = options.model.ends_with(".json");
  MORAINE_ASSIGN_OR_RETURN(const auto tokenizer,
                           Tokenizer::Open(is_file ? options.model : options.model + "/tokenizer.json"));
  const double load = CpuSeconds() - start;
  nlohmann::json report = {{"load_seconds", load}, {"texts", nlohmann::json::array()}};
  if (!options.json) {
    fmt::print("load {:.3f} s\n{:>10} {:>9} {:>8} {:>9} {:>9} {:>7}  text\n", load, "bytes", "tokens",
               "bound", "measured", "peer", "ratio");
  }
  for (const std::string& file : options.files) {
    MORAINE_ASSIGN_OR_RETURN(const std::string text, ReadText(file, int64_t{1} << 30));
    const auto documents = Documents(text, options.document);
    const auto encode = [&] {
      size_t tokens = 0;
      for (const std::string_view document : documents) tokens += tokenizer->Encode(document).size();
      return tokens;
    };
    const size_t tokens = encode();  // also warms what the tokenizer remembers
    volatile bool valid = false;
    const double bound = Speed(options.rounds, text.size(), [&] { valid = IsUtf8(text); });
    volatile size_t count = 0;
    const double ours = Speed(options.rounds, text.size(), [&] { count = encode(); });
    if (options.json) {
      report["texts"].push_back({{"file", file},
                                 {"bytes", text.size()},
                                 {"tokens", tokens},
                                 {"mb_s", ours},
                                 {"bound_mb_s", bound}});
    } else {
      fmt::print("{:>10} {:>9} {:>8.0f} {:>9.1f} {:>9} {:>7}  {}\n", text.size(), tokens, bound, ours,
                 options.peer > 0 ? fmt::format("{:.1f}", options.peer) : "-",
                 options.peer > 0 ? fmt::format("{:.2f}x", ours / options.peer) : "-", file);
    }
  }
  if (options.json) fmt::print("{}\n", report.dump());
  return {};
}

}  // namespace
}  // namespace moraine::tools

int main(int argc, char** argv) {
  moraine::tools::Options options;
  CLI::App app("Times Tokenizer::Encode on one thread; speeds are MB/s of UTF-8, by processor time.",
               "bench_tokenizer");
  app.add_option("MODEL", options.model, "Model folder or tokenizer.json")->required();
  app.add_option("FILE", options.files, "Texts")->required();
  app.add_option("--document", options.document, "Bytes of each call to Encode; default 16384")
      ->check(CLI::Range(size_t{1}, size_t{1} << 30));
  app.add_option("--rounds", options.rounds, "Rounds, of which the median counts")
      ->check(CLI::Range(1, 1000));
  app.add_option("--peer", options.peer, "Speed of another tokenizer on the same text, MB/s");
  app.add_flag("--json", options.json, "Print one JSON object");
  app.footer("Exit codes: 0 ok, 2 usage, 3 model files, 5 I/O or internal.");
  return moraine::tools::BenchMain(app, "bench_tokenizer", argc, argv,
                                   [&] { return moraine::tools::Run(options); });
}
