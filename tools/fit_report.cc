#include "tools/fit_report.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/inspect_report.h"

namespace moraine::tools {
namespace {

using Json = nlohmann::ordered_json;

// Text that is longer goes on below itself, behind the column of names.
constexpr size_t kColumns = 100;
constexpr size_t kIndent = 9;

std::string Wrapped(std::string_view name, const std::string& text) {
  std::string out = fmt::format("{:<{}}", name, kIndent);
  size_t column = kIndent;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (column > kIndent && column + 1 + (end - at) > kColumns) {
      out.append("\n").append(kIndent, ' ');
      column = kIndent;
    }
    if (column > kIndent) {
      out.push_back(' ');
      ++column;
    }
    out.append(text, at, end - at);
    column += end - at;
    at = end + 1;
  }
  return out + "\n";
}

std::string GbS(const Figure& figure) {
  return fmt::format("{:.1f} GB/s [{}]", 1e-9 * figure.value, Name(figure.origin));
}

// "671.0 B", "4.0 M".
std::string Count(double value) {
  return value >= 1e9 ? fmt::format("{:.1f} B", 1e-9 * value) : fmt::format("{:.1f} M", 1e-6 * value);
}

// Decimal, as bandwidths are.
std::string Decimal(double bytes) {
  return bytes >= 1e9 ? fmt::format("{:.2f} GB", 1e-9 * bytes) : fmt::format("{:.2f} MB", 1e-6 * bytes);
}

std::string Duration(double seconds) {
  if (seconds <= 0) return "no time";
  if (seconds < 1e-3) return fmt::format("{:.0f} us", 1e6 * seconds);
  if (seconds < 1) return fmt::format("{:.0f} ms", 1e3 * seconds);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  return seconds < 7200 ? fmt::format("{:.0f} min", seconds / 60) : fmt::format("{:.1f} h", seconds / 3600);
}

std::string TokS(double rate) { return fmt::format("{:.{}f}", rate, rate < 10 ? 2 : 1); }

std::string Range(const Speed& speed) {
  return fmt::format("{} tok/s ({} to {})", TokS(speed.tok_s), TokS(speed.low), TokS(speed.high));
}

std::string LimitName(const std::string& resource) {
  if (resource == "ram") return "memory bandwidth";
  if (resource == "cpu") return "processor";
  return resource == "nvme" ? "drive" : resource;
}

std::string ModelLine(const FitReport& r) {
  const ModelShape& s = r.fit.shape;
  const ModelFigures figures = FiguresOf(r.model.checkpoint);
  std::string line = fmt::format("{} ({}): {} parameters in {} layers", r.model.name, r.model.origin,
                                 Count(static_cast<double>(figures.parameters)), s.layers);
  if (s.moe_layers() > 0) {
    const auto tensors = r.model.checkpoint.tensors();
    const auto routed = std::find_if(tensors.begin(), tensors.end(), [](const StoredTensor& t) {
      return t.tensor_class == TensorClass::kRouted;
    });
    line += fmt::format(", {} of them with {} experts ({}) of which {} run for a token", s.moe_layers(),
                        s.experts, FormatName(*routed), s.top_k);
  }
  line += fmt::format("; {} of weights", Decimal(static_cast<double>(figures.bytes)));
  if (!r.model.licence.empty()) line += fmt::format("; licence {}", r.model.licence);
  return line;
}

std::string MachineLine(const FitReport& r) {
  const Hardware& h = r.hardware;
  std::string line = fmt::format("{}; {} cores in {} NUMA node{}, kernels {} [{}]; RAM {} ({})",
                                 h.cpu_model.empty() ? "processor" : h.cpu_model, h.cores,
                                 std::max<size_t>(1, h.nodes.size()), h.nodes.size() > 1 ? "s" : "", h.isa,
                                 Name(h.cpu_origin), HumanBytes(static_cast<double>(r.fit.request.ram.bytes)),
                                 r.fit.request.ram.source);
  if (!h.drive.device.empty() || !h.drive.filesystem.empty()) {
    line += fmt::format("; drive {} ({}, {}{})", h.drive.device, Name(h.drive.kind), h.drive.filesystem,
                        h.drive.direct == false ? ", no O_DIRECT" : "");
  }
  for (const GpuDevice& gpu : h.gpus) {
    line += fmt::format("; {} ({})", gpu.name.empty() ? "GPU" : gpu.name,
                        HumanBytes(static_cast<double>(gpu.memory_bytes)));
  }
  if (h.gpus.empty()) line += "; no GPU";
  return line;
}

std::string RatesLine(const FitReport& r) {
  const Rates& rates = r.fit.rates;
  std::string line = fmt::format("memory {}, drive {}", GbS(rates.memory_read), GbS(rates.drive_read));
  if (const ExpertRate* rate = FindExpertRate(rates, r.fit.work.expert.format, r.fit.work.expert.group);
      rate != nullptr && r.fit.work.moe_layers > 0)
    line += fmt::format(", experts {}", GbS(rate->decode_bytes_s));
  line += fmt::format(", attention {:.0f} GFLOP/s [{}]", 1e-9 * rates.attention_flops.value,
                      Name(rates.attention_flops.origin));
  return line;
}

std::string TierTable(const Plan& plan) {
  std::string out = fmt::format("{:<{}}{:<24}{:>13}\n", "tier", kIndent, "class", "bytes");
  for (const PlanTier& tier : plan.tiers) {
    std::string name = tier.name;
    for (const auto& [what, bytes] : tier.classes) {
      out += fmt::format("{:<{}}{:<24}{:>13}\n", name, kIndent, what, HumanBytes(static_cast<double>(bytes)));
      name.clear();
    }
    // Of the drive, what has no slot is used; it has no ceiling.
    if (tier.name == "ram") {
      out += fmt::format("{:<{}}{:<24}{:>13}  of {}\n", "", kIndent, "left",
                         HumanBytes(static_cast<double>(tier.left())),
                         HumanBytes(static_cast<double>(tier.have)));
    }
  }
  return out;
}

std::string SpeedLines(std::string_view name, const Speed& speed, bool explain) {
  std::string out = Wrapped(name, fmt::format("{}; limit: {}", Range(speed), LimitName(speed.limit)));
  double all = 0;
  for (const Stage& stage : speed.stages) all += stage.seconds;
  for (const Stage& stage : speed.stages) {
    const std::string share = fmt::format("{:<24}{:>10}  {:>3.0f} %  {}", stage.name, Duration(stage.seconds),
                                          all > 0 ? 100 * stage.seconds / all : 0, LimitName(stage.resource));
    out += fmt::format("{:{}}{}\n", "", kIndent, share);
    if (explain) out += fmt::format("{:{}}{}\n", "", kIndent + 2, stage.formula);
  }
  return out;
}

std::string DemandLine(const FitReport& r, const FitAnswer& answer) {
  const ModelWork& w = r.fit.work;
  std::string line;
  if (w.moe_layers > 0) {
    line = fmt::format("a token runs {} of {} routed experts, {}, and reads {} of other weights",
                       answer.plan.experts_per_token, answer.plan.routed_experts,
                       Decimal(w.moe_layers * w.top_k * w.expert.bytes),
                       Decimal(w.dense_bytes() + w.head.bytes));
    const double share = SlotShare(answer.plan);
    if (!answer.plan.holds_all) {
      const HitRate& hits = answer.forecast.hits;
      line += fmt::format(
          "; {:.1f} % of experts have a slot, {:.0f} % ({:.0f} to {:.0f}) of uses find theirs "
          "there [{}: {}], {} a token come from the drive",
          100 * share, 100 * hits.expected, 100 * hits.low, 100 * hits.high,
          r.fit.hits ? "replayed" : "assumed", r.fit.forecast.hits_from,
          Decimal(answer.forecast.nvme_bytes_per_token));
    }
  } else {
    line = fmt::format("a token reads {} of weights", Decimal(w.dense_bytes() + w.head.bytes));
  }
  return line;
}

std::string NextLine(const NextStep& step, const std::optional<FitAnswer>& now) {
  if (!step.fits) return fmt::format("{}: still does not fit", step.change);
  if (!now) return fmt::format("{}: fits, {} tok/s", step.change, TokS(step.decode.tok_s));
  const double before = now->forecast.decode.tok_s;
  const double gain = before > 0 ? step.decode.tok_s / before : 0;
  if (std::abs(gain - 1) < 0.02) return fmt::format("{}: no change", step.change);
  return fmt::format("{}: {} tok/s ({:+.0f} %), limit: {}", step.change, TokS(step.decode.tok_s),
                     100 * (gain - 1), LimitName(step.decode.limit));
}

Json FigureJson(const Figure& figure) {
  return {{"value", figure.value}, {"origin", Name(figure.origin)}, {"from", figure.from}};
}

Json SpeedJson(const Speed& speed) {
  Json json = {{"tok_s", speed.tok_s}, {"low", speed.low}, {"high", speed.high}, {"limit", speed.limit}};
  json["stages"] = Json::array();
  for (const Stage& stage : speed.stages) {
    json["stages"].push_back({{"name", stage.name},
                              {"resource", stage.resource},
                              {"seconds", stage.seconds},
                              {"formula", stage.formula}});
  }
  return json;
}

Json MachineJson(const FitReport& r) {
  const Hardware& h = r.hardware;
  Json json = {{"cpu", h.cpu_model},
               {"cores", h.cores},
               {"workers", h.workers},
               {"isa", h.isa},
               {"cpu_origin", Name(h.cpu_origin)},
               {"nodes", Json::array()},
               {"ram", r.fit.request.ram.bytes},
               {"ram_from", r.fit.request.ram.source},
               {"huge_pages", h.transparent_huge_pages},
               {"gpus", Json::array()},
               {"fingerprint", h.fingerprint}};
  for (const HardwareNode& node : h.nodes)
    json["nodes"].push_back({{"cores", node.cores}, {"memory", node.memory_bytes}});
  for (const GpuDevice& gpu : h.gpus) {
    json["gpus"].push_back({{"name", gpu.name},
                            {"memory", gpu.memory_bytes},
                            {"pcie", fmt::format("{}x{}", gpu.pcie_generation, gpu.pcie_width)},
                            {"driver", gpu.driver}});
  }
  json["drive"] = {{"device", h.drive.device},
                   {"model", h.drive.model},
                   {"kind", Name(h.drive.kind)},
                   {"filesystem", h.drive.filesystem},
                   {"free", h.drive.free_bytes}};
  json["drive"]["direct"] = h.drive.direct ? Json(*h.drive.direct) : Json();
  json["drive"]["io_uring"] = h.drive.io_uring ? Json(*h.drive.io_uring) : Json();
  return json;
}

Json RatesJson(const Rates& rates) {
  Json json = {{"memory_read", FigureJson(rates.memory_read)},
               {"drive_read", FigureJson(rates.drive_read)},
               {"attention_flops", FigureJson(rates.attention_flops)},
               {"experts", Json::object()}};
  for (const ExpertRate& rate : rates.experts) {
    Json& one = json["experts"][rate.name];
    one["decode"] = FigureJson(rate.decode_bytes_s);
    for (const PrefillRate& prefill : rate.prefill)
      one[fmt::format("prefill_{}", prefill.rows)] = FigureJson(prefill.flops_s);
  }
  return json;
}

}  // namespace

std::string FitText(const FitReport& r, bool explain) {
  std::string out =
      Wrapped("model", ModelLine(r)) + Wrapped("machine", MachineLine(r)) + Wrapped("rates", RatesLine(r));
  if (explain) {
    for (const auto* figure :
         {&r.fit.rates.memory_read, &r.fit.rates.drive_read, &r.fit.rates.attention_flops})
      out += Wrapped("", fmt::format("{:.1f} G/s: {}", 1e-9 * figure->value, figure->from));
    std::vector<FormatWork> formats = r.fit.work.dense;
    formats.push_back(r.fit.work.expert);
    std::vector<const ExpertRate*> said;
    for (const FormatWork& w : formats) {
      const ExpertRate* rate = FindExpertRate(r.fit.rates, w.format, w.group);
      if (rate == nullptr || std::find(said.begin(), said.end(), rate) != said.end()) continue;
      said.push_back(rate);
      out += Wrapped("", fmt::format("{}: {:.1f} GB/s: {}", rate->name, 1e-9 * rate->decode_bytes_s.value,
                                     rate->decode_bytes_s.from));
    }
  }
  const double position = r.fit.work.kv_bytes;
  const std::string kv =
      fmt::format("{:.0f} B a token ({}), {} for {} tokens; at most {} tokens fit, the model knows {}",
                  position, r.kv_type, HumanBytes(position * static_cast<double>(r.context)), r.context,
                  r.largest_context, r.fit.shape.context);
  if (r.answer) {
    out += fmt::format("\n{}\n", TierTable(r.answer->plan));
    out += Wrapped("kv", kv) + Wrapped("demand", DemandLine(r, *r.answer)) + "\n";
    out += SpeedLines("decode", r.answer->forecast.decode, explain);
    out += SpeedLines("prefill", r.answer->forecast.prefill, explain);
    out += Wrapped("start",
                   fmt::format("{} until the first token of an answer to {:.0f} tokens, once {} "
                               "are loaded, which takes {}",
                               Duration(r.answer->forecast.first_token_s), r.fit.forecast.prompt_tokens,
                               Decimal(r.answer->forecast.load_bytes), Duration(r.answer->forecast.load_s)));
  } else {
    out += fmt::format("\n{}{}", Wrapped("verdict", r.refusal), Wrapped("kv", kv));
  }
  std::string_view name = "next";
  for (const NextStep& step : r.next) {
    out += Wrapped(name, NextLine(step, r.answer));
    name = "";
  }
  for (const std::string& notice : r.notices) out += Wrapped("note", notice);
  if (!r.verify.empty()) out += Wrapped("verify", r.verify);
  return out;
}

Json FitJson(const FitReport& r) {
  Json json = r.answer ? Json::parse(PlanJson(r.fit.shape, r.answer->plan)) : Json{{"schema", 1}};
  json["fits"] = r.answer.has_value();
  json["name"] = r.model.name;
  json["origin"] = r.model.origin;
  json["licence"] = r.model.licence;
  if (!r.answer) json["refusal"] = r.refusal;
  json["machine"] = MachineJson(r);
  json["rates"] = RatesJson(r.fit.rates);
  json["context"] = {{"tokens", r.context},
                     {"largest", r.largest_context},
                     {"model", r.fit.shape.context},
                     {"kv_type", r.kv_type}};
  const ModelWork& w = r.fit.work;
  json["demand"] = {{"routed_bytes", std::llround(w.moe_layers * w.top_k * w.expert.bytes)},
                    {"other_bytes", std::llround(w.dense_bytes() + w.head.bytes)},
                    {"kv_bytes_at_position", std::llround(w.kv_bytes * r.fit.forecast.position)},
                    {"position", std::llround(r.fit.forecast.position)}};
  if (r.answer) {
    const Forecast& f = r.answer->forecast;
    json["hit_rate"] = {
        {"expected", f.hits.expected},
        {"low", f.hits.low},
        {"high", f.hits.high},
        {"from", r.answer->plan.holds_all ? "all experts have a slot" : r.fit.forecast.hits_from}};
    json["bytes_per_token"] = {{"vram", 0},
                               {"ram", std::llround(f.ram_bytes_per_token)},
                               {"nvme", std::llround(f.nvme_bytes_per_token)}};
    json["decode"] = SpeedJson(f.decode);
    json["prefill"] = SpeedJson(f.prefill);
    json["prefill"]["tokens"] = std::llround(r.fit.forecast.prompt_tokens);
    json["first_token_s"] = f.first_token_s;
    json["load"] = {{"bytes", std::llround(f.load_bytes)}, {"seconds", f.load_s}};
  }
  json["next"] = Json::array();
  for (const NextStep& step : r.next) {
    json["next"].push_back({{"change", step.change},
                            {"fits", step.fits},
                            {"decode_tok_s", step.decode.tok_s},
                            {"limit", step.decode.limit}});
  }
  json["notices"] = r.notices;
  json["verify"] = r.verify;
  return json;
}

}  // namespace moraine::tools
