// The report as one page that needs nothing else: bars for the tiers, speed over memory and over context.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/fit_report.h"
#include "tools/svg_plot.h"

namespace moraine::tools {
namespace {

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

constexpr std::array<const char*, 12> kColours = {"#4e79a7", "#f28e2b", "#59a14f", "#e15759",
                                                  "#76b7b2", "#edc948", "#b07aa1", "#ff9da7",
                                                  "#9c755f", "#86bcb6", "#d37295", "#a0cbe8"};
constexpr double kBarWidth = 860;

// A bar as wide as what the tier has, or as all experts for the drive; what is left stays grey.
std::string TierBar(const PlanTier& tier) {
  const double whole = std::max<double>(1, static_cast<double>(std::max(tier.have, tier.used)));
  std::string bar;
  std::string legend;
  double x = 0;
  size_t colour = 0;
  for (const auto& [name, bytes] : tier.classes) {
    const double width = kBarWidth * static_cast<double>(bytes) / whole;
    const char* fill = kColours[colour++ % kColours.size()];
    const std::string label = Escaped(fmt::format("{} {}", name, HumanBytes(static_cast<double>(bytes))));
    bar +=
        fmt::format("<rect x=\"{:.2f}\" width=\"{:.2f}\" height=\"34\" fill=\"{}\"><title>{}</title></rect>",
                    x, width, fill, label);
    legend += fmt::format("<span class=\"key\"><i style=\"background:{}\"></i>{}</span>\n", fill, label);
    x += width;
  }
  return fmt::format(
      "<h3>{}: {} of {}</h3>\n<svg class=\"bar\" viewBox=\"0 0 {} 34\" preserveAspectRatio=\"none\" "
      "role=\"img\" aria-label=\"{}\"><rect "
      "width=\"{}\" height=\"34\" fill=\"#ddd\"/>{}</svg>\n<p>{}</p>\n",
      Escaped(tier.name), HumanBytes(static_cast<double>(tier.used)),
      HumanBytes(static_cast<double>(tier.have)), kBarWidth, Escaped(tier.name), kBarWidth, bar, legend);
}

struct SpeedCurves {
  Curve low{.name = "low", .dashed = true};
  Curve expected{.name = "expected"};
  Curve high{.name = "high", .dashed = true};

  void Add(double x, const Speed& speed) {
    low.points.emplace_back(x, speed.low);
    expected.points.emplace_back(x, speed.tok_s);
    high.points.emplace_back(x, speed.high);
  }
  std::string Svg(const std::string& title, const std::string& x_name) const {
    return SvgOf({.title = title, .x_name = x_name, .y_name = "tok/s", .curves = {low, expected, high}});
  }
};

constexpr int kSteps = 48;

std::string OverMemory(FitCase fit) {
  // Up to where all fits, or four times what there is.
  double all = fit.request.kv + fit.request.scratch + static_cast<double>(fit.request.process);
  for (const int64_t bytes : fit.request.weights) all += static_cast<double>(bytes);
  for (const SlotClass& c : fit.request.classes)
    all += static_cast<double>(c.bytes()) * c.layers * static_cast<double>(fit.shape.experts);
  fit.hits.reset();
  fit.request.slots.reset();
  SpeedCurves curves;
  for (int i = 1; i <= kSteps; ++i) {
    fit.request.ram.bytes = static_cast<int64_t>(all * 1.02 * i / kSteps);
    if (const auto answer = Ask(fit); answer.has_value())
      curves.Add(static_cast<double>(fit.request.ram.bytes) / 0x1p30, answer->forecast.decode);
  }
  return curves.Svg("decode over memory", "RAM, GiB");
}

std::string OverContext(FitCase fit, int64_t largest) {
  const double position = fit.work.kv_bytes;
  fit.hits.reset();
  fit.request.slots.reset();
  SpeedCurves curves;
  for (int i = 0; i <= kSteps; ++i) {
    const double tokens = static_cast<double>(largest) * i / kSteps;
    fit.forecast.position = tokens;
    fit.request.kv = std::max(1.0, tokens) * position;
    if (const auto answer = Ask(fit); answer.has_value()) curves.Add(tokens, answer->forecast.decode);
  }
  return curves.Svg("decode at the end of a full context", "tokens in the cache");
}

}  // namespace

std::string FitHtml(const FitReport& r) {
  std::string body = fmt::format("<h1>fitcheck: {}</h1>\n", Escaped(r.model.name));
  if (r.answer) {
    const Forecast& f = r.answer->forecast;
    body += fmt::format(
        "<p class=\"big\">decode <b>{:.2f} tok/s</b> ({:.2f} to {:.2f}), limit: {}; prefill <b>{:.1f} "
        "tok/s</b> "
        "({:.1f} to {:.1f}), limit: {}</p>\n",
        f.decode.tok_s, f.decode.low, f.decode.high, Escaped(f.decode.limit), f.prefill.tok_s, f.prefill.low,
        f.prefill.high, Escaped(f.prefill.limit));
    body += "<h2>Tiers</h2>\n";
    for (const PlanTier& tier : r.answer->plan.tiers) body += TierBar(tier);
  }
  body += fmt::format("<h2>Speed</h2>\n<div class=\"plots\">{}{}</div>\n", OverMemory(r.fit),
                      r.largest_context > 0 ? OverContext(r.fit, r.largest_context) : std::string());
  body += fmt::format("<h2>All of it</h2>\n<pre>{}</pre>\n", Escaped(FitText(r, /*explain=*/true)));
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>fitcheck: {}</title>\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n"
      "body{{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}}\n"
      "h3{{margin:1em 0 .3em}} .bar{{width:100%;height:34px}} .big{{font-size:1.15em}}\n"
      ".key{{display:inline-block;margin-right:1em;white-space:nowrap}} .key "
      "i{{display:inline-block;width:.8em;"
      "height:.8em;margin-right:.35em}}\n"
      ".plots svg{{width:100%;height:auto;margin-bottom:1em}} "
      "pre{{overflow-x:auto;background:#f6f6f6;padding:1em;"
      "font-size:12.5px}}\n</style></head>\n<body>\n{}</body></html>\n",
      Escaped(r.model.name), body);
}

}  // namespace moraine::tools
