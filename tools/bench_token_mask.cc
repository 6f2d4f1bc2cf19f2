// bench_token_mask: what holding an answer to a JSON form costs for each token, on one thread.
//
//   bench_token_mask MODEL [--schema FILE --document FILE] [--rounds N] [--json]
//
// A document of each form is cut into tokens as the tokenizer cuts it, and a mask followed through them: for
// each token the mask of what is allowed is made (or found again) and the token accepted. Every round begins
// with a fresh mask that remembers nothing. "apply" is the median of copying a row of logits and taking out
// of it what a mask does not allow. Times are of processor time of this thread.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/allowed_logits.h"
#include "runtime/core/file.h"
#include "runtime/grammar/grammar_mask.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/text/tokenizer.h"
#include "tools/bench/bench_main.h"
#include "tools/commands.h"

namespace moraine::tools {
namespace {

struct Options {
  std::string model;
  std::string schema;
  std::string document;
  int rounds = 5;
  bool json = false;
};

struct Form {
  std::string name;
  std::string schema;  // empty: any object
  std::string document;
};

constexpr const char* kInvoice = R"({"type": "object", "properties": {
  "number": {"type": "string", "maxLength": 40}, "customer": {"$ref": "#/$defs/party"},
  "currency": {"enum": ["EUR", "USD", "GBP", "JPY"]},
  "lines": {"type": "array", "minItems": 1, "maxItems": 50, "items": {"type": "object", "properties": {
    "text": {"type": "string"}, "count": {"type": "integer"}, "price": {"type": "number"},
    "tax": {"anyOf": [{"type": "number"}, {"type": "null"}]}}, "required": ["text", "count", "price", "tax"]}},
  "note": {"type": ["string", "null"], "maxLength": 200}, "paid": {"type": "boolean"}},
  "required": ["number", "customer", "currency", "lines", "note", "paid"],
  "$defs": {"party": {"type": "object", "properties": {"name": {"type": "string"}, "city": {"type": "string"},
    "contact": {"oneOf": [
      {"type": "object", "properties": {"kind": {"const": "mail"}, "address": {"type": "string"}}, "required": ["kind", "address"]},
      {"type": "object", "properties": {"kind": {"const": "phone"}, "number": {"type": "string"}}, "required": ["kind", "number"]}]}},
    "required": ["name", "city", "contact"]}}})";

// Lines of an invoice, as many as make some hundreds of tokens.
std::string Invoice(int lines, int indent) {
  nlohmann::ordered_json made = {
      {"number", "INV-2024-00317"},
      {"customer",
       {{"name", "Müller & Söhne GmbH"},
        {"city", "Zürich"},
        {"contact", {{"kind", "mail"}, {"address", "office@mueller.example"}}}}},
      {"currency", "EUR"},
      {"lines", nlohmann::ordered_json::array()},
      {"note", "Payable within 30 days; thank you \"as always\" for the order. 谢谢!\nSee page 2."},
      {"paid", false}};
  for (int i = 0; i < lines; ++i) {
    nlohmann::ordered_json tax;
    if (i % 3 != 0) tax = 0.19;
    made["lines"].push_back(
        {{"text", fmt::format("Stainless bolt M{} x {} mm, box of {}", 4 + i, 10 + 5 * i, 100)},
         {"count", 3 * i + 1},
         {"price", 12.25 + i},
         {"tax", tax}});
  }
  return made.dump(indent);
}

double CpuMicroseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

Result<std::vector<Form>> FormsOf(const Options& options) {
  if (options.schema.empty()) {
    return std::vector<Form>{{"any object, compact", "", Invoice(8, -1)},
                             {"any object, indented", "", Invoice(8, 2)},
                             {"schema, compact", kInvoice, Invoice(8, -1)},
                             {"schema, indented", kInvoice, Invoice(8, 2)}};
  }
  MORAINE_ASSIGN_OR_RETURN(std::string schema, ReadText(options.schema, int64_t{1} << 20));
  MORAINE_ASSIGN_OR_RETURN(std::string document, ReadText(options.document, int64_t{1} << 26));
  return std::vector<Form>{{options.schema, std::move(schema), std::move(document)}};
}

Result<std::shared_ptr<const Grammar>> Compile(const Form& form) {
  if (form.schema.empty()) return AnyObjectGrammar();
  const auto schema = nlohmann::ordered_json::parse(form.schema, nullptr, false);
  if (schema.is_discarded()) return Fail(ErrorKind::kUsage, form.name + " is not JSON");
  return CompileJsonSchema(schema, {.strict = true});
}

// Sorted, of each token, all rounds together.
struct Times {
  std::vector<double> mask;
  std::vector<double> apply;
};

Result<Times> Follow(const std::shared_ptr<const Grammar>& grammar, const TokenTable& table,
                     const std::vector<int32_t>& ids, int rounds) {
  Times times;
  const std::vector<float> logits(64 * table.words(), 1.f);
  std::vector<float> masked;
  for (int round = 0; round < rounds; ++round) {
    GrammarMask mask(grammar, &table);
    for (size_t i = 0; i < ids.size(); ++i) {
      const double start = CpuMicroseconds();
      const auto allowed = mask.Allowed();
      const double made = CpuMicroseconds();
      masked.assign(logits.begin(), logits.end());
      KeepAllowed(allowed, masked);
      const double applied = CpuMicroseconds();
      if (masked[static_cast<size_t>(ids[i])] != 1.f) {
        return Fail(ErrorKind::kUsage, fmt::format("token {} of the document, \"{}\", is not of the schema",
                                                   i, table.Piece(ids[i])));
      }
      mask.Accept(ids[i]);
      times.mask.push_back(made - start + CpuMicroseconds() - applied);
      times.apply.push_back(applied - made);
    }
  }
  std::sort(times.mask.begin(), times.mask.end());
  std::sort(times.apply.begin(), times.apply.end());
  return times;
}

double At(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
}

Status Run(const Options& options) {
  const bool is_file = options.model.ends_with(".json");
  MORAINE_ASSIGN_OR_RETURN(const auto tokenizer,
                           Tokenizer::Open(is_file ? options.model : options.model + "/tokenizer.json"));
  std::vector<std::string_view> pieces;
  pieces.reserve(static_cast<size_t>(tokenizer->vocab_size()));
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id)
    pieces.push_back(tokenizer->IsAdded(id) ? std::string_view() : tokenizer->Piece(id));
  const double before = CpuMicroseconds();
  MORAINE_ASSIGN_OR_RETURN(const auto table, TokenTable::Make(pieces, tokenizer->vocab_size(), {}));
  const double table_us = CpuMicroseconds() - before;
  nlohmann::json report = {{"tokens", tokenizer->vocab_size()},
                           {"table_bytes", table->Bytes()},
                           {"table_ms", table_us / 1e3},
                           {"plain_nodes", table->plain().nodes.size()},
                           {"other_nodes", table->others().nodes.size()},
                           {"forms", nlohmann::json::array()}};
  if (!options.json) {
    fmt::print("{} tokens; table {:.1f} MiB in {:.0f} ms: {} nodes of plain tokens, {} of others\n",
               tokenizer->vocab_size(), static_cast<double>(table->Bytes()) / (1 << 20), table_us / 1e3,
               table->plain().nodes.size(), table->others().nodes.size());
    fmt::print("{:>7} {:>11} {:>10} {:>8} {:>8} {:>8} {:>8}  form, microseconds a token\n", "tokens",
               "compile us", "median", "p90", "p99", "worst", "apply");
  }
  MORAINE_ASSIGN_OR_RETURN(const auto forms, FormsOf(options));
  for (const Form& form : forms) {
    const double start = CpuMicroseconds();
    MORAINE_ASSIGN_OR_RETURN(const auto grammar, Compile(form));
    const double compile_us = CpuMicroseconds() - start;
    const auto ids = tokenizer->Encode(form.document);
    MORAINE_ASSIGN_OR_RETURN(const auto times, Follow(grammar, *table, ids, options.rounds));
    if (options.json) {
      report["forms"].push_back({{"form", form.name},
                                 {"tokens", ids.size()},
                                 {"compile_us", compile_us},
                                 {"median_us", At(times.mask, 0.5)},
                                 {"p90_us", At(times.mask, 0.9)},
                                 {"p99_us", At(times.mask, 0.99)},
                                 {"worst_us", times.mask.back()},
                                 {"apply_us", At(times.apply, 0.5)}});
    } else {
      fmt::print("{:>7} {:>11.0f} {:>10.2f} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f}  {}\n", ids.size(),
                 compile_us, At(times.mask, 0.5), At(times.mask, 0.9), At(times.mask, 0.99),
                 times.mask.back(), At(times.apply, 0.5), form.name);
    }
  }
  if (options.json) fmt::print("{}\n", report.dump());
  return {};
}

}  // namespace
}  // namespace moraine::tools

int main(int argc, char** argv) {
  moraine::tools::Options options;
  CLI::App app("Times the mask that holds answers to a JSON form, for each token, on one thread.",
               "bench_token_mask");
  app.add_option("MODEL", options.model, "Model folder or tokenizer.json")->required();
  auto* schema = app.add_option("--schema", options.schema, "A JSON schema instead of the forms built in");
  auto* document = app.add_option("--document", options.document, "A document that satisfies it");
  schema->needs(document);
  document->needs(schema);
  app.add_option("--rounds", options.rounds, "Times each document is followed")->check(CLI::Range(1, 1000));
  app.add_flag("--json", options.json, "Print one JSON object");
  app.footer("Exit codes: 0 ok, 2 usage, 3 model files, 5 I/O or internal.");
  return moraine::tools::BenchMain(app, "bench_token_mask", argc, argv,
                                   [&] { return moraine::tools::Run(options); });
}
