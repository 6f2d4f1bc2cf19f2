// runtime/engine.h: what must not change a result does not, and what cannot be is refused with its numbers.
#include "runtime/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>

#include "cpu/cpu_backend.h"
#include "runtime/generate.h"
#include "storage/checkpoint.h"
#include "tests/support/compare.h"
#include "tests/support/golden.h"

namespace moraine {
namespace {

using test::Golden;
using test::RelativeError;
using ::testing::HasSubstr;

std::unique_ptr<Engine> Open(EngineOptions options, const std::string& name = "v3-fp8") {
  if (options.context == 0) options.context = 160;
  auto engine = Engine::Open(Golden(name).folder(), options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return std::move(engine).value();
}

std::vector<float> Last(Engine& engine, std::span<const int32_t> ids) {
  Sequence sequence = engine.NewSequence();
  const auto logits = engine.Prefill(&sequence, ids);
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  return {logits->begin(), logits->end()};
}

std::vector<int32_t> Ids() { return Golden("v3-fp8").Ints("ids"); }

TEST(Engine, PagesAndThreadsChangeNoBit) {
  const auto ids = Ids();
  for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
    const auto want = Last(*Open({.kv_type = type, .threads = 1}), ids);
    for (const int32_t page : {1, 5, 16, 160})
      EXPECT_EQ(Last(*Open({.page_tokens = page, .kv_type = type, .threads = 1}), ids), want);
    for (const int threads : {2, 3, 7})
      EXPECT_EQ(Last(*Open({.kv_type = type, .threads = threads}), ids), want);
  }
}

// Chunks may change the form of attention, so this is bounded, not bit-equal; the KV type rounds alike in
// both.
TEST(Engine, ChunksStayWithinTheBound) {
  const auto ids = Ids();
  // Chunks of a few rows and of many go through different kernels; where those of many round to bf16 (AMX),
  // the weights and inputs of every product are off by up to 2^-9, and the random model's router by what
  // follows.
  for (const bool f32 : {true, false}) {
    const auto last = [&](int32_t chunk) {
      return Last(*Open({.prefill_chunk = chunk, .kv_type = KvType::kF32, .f32_activations = f32}), ids);
    };
    const auto want = last(128);
    for (const int32_t chunk : {1, 7, 64})
      EXPECT_LE(RelativeError(last(chunk), want), f32 ? 1e-5 : 3e-2) << chunk;
  }
}

TEST(Engine, DecodingInABatchGivesTheBitsOfDecodingAlone) {
  const auto ids = Ids();
  const auto engine = Open({.sequences = 3});
  const std::vector<std::vector<int32_t>> prompts = {{ids.begin(), ids.begin() + 20},
                                                     {ids.begin() + 30, ids.begin() + 33},
                                                     {ids.begin() + 5, ids.begin() + 70}};
  std::vector<std::vector<float>> alone;
  for (const auto& prompt : prompts) {
    Sequence sequence = engine->NewSequence();
    ASSERT_TRUE(engine->Prefill(&sequence, prompt).has_value());
    const StepInput input{&sequence, {&ids[3], 1}};
    const auto logits = engine->Step({&input, 1});
    ASSERT_TRUE(logits.has_value());
    alone.emplace_back(logits->begin(), logits->end());
  }
  std::vector<Sequence> sequences;
  std::vector<StepInput> inputs;
  for (const auto& prompt : prompts) {
    sequences.push_back(engine->NewSequence());
    ASSERT_TRUE(engine->Prefill(&sequences.back(), prompt).has_value());
  }
  for (Sequence& sequence : sequences) inputs.push_back({&sequence, {&ids[3], 1}});
  const auto logits = engine->Step(inputs);
  ASSERT_TRUE(logits.has_value());
  const auto vocab = static_cast<size_t>(engine->shape().vocab);
  for (size_t i = 0; i < 3; ++i) {
    const auto row = logits->subspan(i * vocab, vocab);
    EXPECT_EQ(std::vector<float>(row.begin(), row.end()), alone[i]) << i;
  }
}

// So many that oneDNN or tiles would take over if rows were counted together, in every storage format.
TEST(Engine, NoNumberOfSequencesChangesABit) {
  constexpr size_t kMany = 64;
  for (const char* name : {"v3-fp8", "v3-bf16", "v3-int4-g32", "v3-int8", "v3-w8a8"}) {
    SCOPED_TRACE(name);
    const auto ids = Golden(name).Ints("ids");
    const auto engine = Open({.context = 32, .sequences = kMany}, name);
    const auto vocab = static_cast<size_t>(engine->shape().vocab);
    std::vector<Sequence> sequences;
    std::vector<StepInput> inputs;
    std::vector<std::vector<float>> alone;
    for (size_t i = 0; i < kMany; ++i) {
      sequences.push_back(engine->NewSequence());
      ASSERT_TRUE(engine->Prefill(&sequences[i], std::span(ids).subspan(i, 8)).has_value());
      const StepInput input{&sequences[i], {&ids[i], 1}};
      const auto logits = engine->Step({&input, 1});
      ASSERT_TRUE(logits.has_value());
      alone.emplace_back(logits->begin(), logits->end());
      sequences[i].Truncate(8);
    }
    for (size_t i = 0; i < kMany; ++i) inputs.push_back({&sequences[i], {&ids[i], 1}});
    const auto logits = engine->Step(inputs);
    ASSERT_TRUE(logits.has_value());
    for (size_t i = 0; i < kMany; ++i) {
      const auto row = logits->subspan(i * vocab, vocab);
      EXPECT_EQ(std::vector<float>(row.begin(), row.end()), alone[i]) << i;
    }
  }
}

TEST(Engine, ForksShareTheirBeginningAndNothingElse) {
  const auto ids = Ids();
  const auto engine = Open({.context = 64, .sequences = 2, .prefill_chunk = 1, .page_tokens = 4});
  const int32_t all = engine->free_pages();
  std::vector<int32_t> other(ids.begin(), ids.begin() + 10);
  other.push_back((ids[10] + 1) % 128);
  const auto want = Last(*engine, std::span(ids).first(12));
  const auto want_other = Last(*engine, other);

  Sequence first = engine->NewSequence();
  ASSERT_TRUE(engine->Prefill(&first, std::span(ids).first(10)).has_value());
  Sequence fork = engine->Fork(first, 10);
  EXPECT_EQ(all - engine->free_pages(), 3) << "a fork takes no page";
  EXPECT_EQ(engine->PagesFor(fork, 1), 1) << "the third page is half full and shared";
  EXPECT_EQ(engine->PagesFor(first, 3), 2);
  // Both write into their third page.
  const auto of_fork = engine->Prefill(&fork, std::span(other).subspan(10));
  ASSERT_TRUE(of_fork.has_value());
  EXPECT_EQ(std::vector<float>(of_fork->begin(), of_fork->end()), want_other);
  EXPECT_EQ(engine->PagesFor(first, 1), 0) << "the fork has a copy now";
  const auto of_first = engine->Prefill(&first, std::span(ids).subspan(10, 2));
  ASSERT_TRUE(of_first.has_value());
  EXPECT_EQ(std::vector<float>(of_first->begin(), of_first->end()), want);

  // Truncated into shared pages, and written anew.
  fork.Truncate(6);
  const auto again = engine->Prefill(&fork, std::span(ids).subspan(6, 6));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(std::vector<float>(again->begin(), again->end()), want);
  Sequence rest = engine->Fork(first, 9);
  first.Truncate(0);
  const auto outlived = engine->Prefill(&rest, std::span(ids).subspan(9, 3));
  ASSERT_TRUE(outlived.has_value());
  EXPECT_EQ(std::vector<float>(outlived->begin(), outlived->end()), want);
  fork.Truncate(0);
  rest.Truncate(0);
  EXPECT_EQ(engine->free_pages(), all);
}

TEST(Engine, TruncatedTokensAreForgotten) {
  const auto ids = Ids();
  const auto engine = Open({.prefill_chunk = 1});
  const auto want = Last(*engine, ids);
  Sequence sequence = engine->NewSequence();
  const std::vector<int32_t> wrong = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  ASSERT_TRUE(engine->Prefill(&sequence, std::span(ids).first(40)).has_value());
  ASSERT_TRUE(engine->Prefill(&sequence, wrong).has_value());
  sequence.Truncate(40);
  const auto logits = engine->Prefill(&sequence, std::span(ids).subspan(40));
  ASSERT_TRUE(logits.has_value());
  EXPECT_EQ(std::vector<float>(logits->begin(), logits->end()), want);
}

TEST(Engine, RefusesWhatCannotBeBeforeComputing) {
  const auto engine = Open({.context = 32});
  Sequence sequence = engine->NewSequence();
  const auto ids = Ids();
  const auto full = engine->Prefill(&sequence, std::span(ids).first(33));
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(full.error().message, HasSubstr("33 tokens of 32"));
  EXPECT_EQ(sequence.length(), 0);
  const std::vector<int32_t> outside = {static_cast<int32_t>(engine->shape().vocab)};
  EXPECT_THAT(engine->Prefill(&sequence, outside).error().message,
              HasSubstr("outside the vocabulary of 128"));
  EXPECT_TRUE(engine->Prefill(&sequence, std::span(ids).first(32)).has_value())
      << "a refusal must leave the engine whole";

  const auto generated =
      Generate(*engine, &sequence, std::span(ids).first(1), {}, [](int32_t) { return true; });
  ASSERT_FALSE(generated.has_value());
  EXPECT_THAT(generated.error().message, HasSubstr("33 tokens and the context 32"));
}

TEST(Engine, RefusesWhatDoesNotFitWithBothNumbers) {
  const auto engine = Engine::Open(Golden("v3-fp8").folder(), {.ram = 1000});
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().kind, ErrorKind::kDoesNotFit);
  EXPECT_THAT(engine.error().message, HasSubstr("--ram allows 1000 B"));
  EXPECT_EQ(Engine::Open(Golden("v3-fp8").folder(), {.context = int64_t{1} << 40}).error().kind,
            ErrorKind::kUsage);
}

TEST(Engine, LoadingStopsWhenAsked) {
  const auto engine =
      Engine::Open(Golden("v3-fp8").folder(), {.progress = [](int64_t, int64_t) { return false; }});
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().kind, ErrorKind::kInterrupted);
}

TEST(Generate, StopsAtStopTokensLimitsAndWhenAsked) {
  const Golden golden("v3-fp8");
  const auto engine = Open({.kv_type = KvType::kF32});
  const auto& prompt = golden.Ints("greedy_prompt");
  const auto& want = golden.Ints("greedy");
  const GenerateOptions greedy{.sampling = {.temperature = 0}, .max_tokens = 10};
  const auto run = [&](const GenerateOptions& options, int stop_after) {
    Sequence sequence = engine->NewSequence();
    int count = 0;
    return *Generate(*engine, &sequence, prompt, options, [&](int32_t) { return ++count != stop_after; });
  };
  const Generated ten = run(greedy, -1);
  EXPECT_EQ(ten.tokens, std::vector<int32_t>(want.begin(), want.begin() + 10));
  EXPECT_EQ(ten.reason, FinishReason::kLength);
  EXPECT_GT(ten.decode_ram_bytes, 0);
  GenerateOptions with_stop = greedy;
  with_stop.stop_tokens = {want[4]};
  const auto first = static_cast<size_t>(std::find(want.begin(), want.end(), want[4]) - want.begin());
  EXPECT_EQ(run(with_stop, -1).tokens.size(), first);
  EXPECT_EQ(run(with_stop, -1).reason, FinishReason::kStop);
  EXPECT_EQ(run(greedy, 3).tokens.size(), 3u);
  GenerateOptions unlimited = greedy;
  unlimited.max_tokens = 0;
  EXPECT_EQ(run(unlimited, -1).tokens.size(), 160 - prompt.size());
}

// The MTP layer through the same rooms, against HF's MtpModel.
TEST(MtpStep, DraftsTheLogitsOfThePublishedCode) {
  const Golden golden("v3-bf16");
  auto opened = Checkpoint::Open(golden.folder(), {.mtp = true});
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(*opened));
  const ModelShape& shape = checkpoint->shape();
  const auto cpu = *CpuBackend::Create({.threads = 2, .f32_activations = true});
  const auto weights = *ModelWeights::Load(checkpoint, cpu->topology(), {});
  ExpertLayout layout(*checkpoint, cpu->node_workers());
  ExpertCacheOptions slots;
  for (const SlotClass& c : layout.classes()) slots.slots.push_back(c.layers * shape.experts);
  const auto cache = *ExpertCache::Open(checkpoint, std::move(layout), *weights, cpu->topology(), slots);
  const auto& ids = golden.Ints("ids");
  const auto rows = static_cast<int32_t>(ids.size());
  const auto dense = *cpu->MakeDense(
      shape, weights->dense(),
      {.max_rows = rows, .max_logit_rows = rows, .page_tokens = 128, .pages = 1, .kv_type = KvType::kF32});
  const std::array formats = {WeightFormat::kBf16};
  const auto experts = cpu->MakeExperts(shape, rows, formats);
  ExpertGrouping grouping(shape.experts, shape.top_k, rows);
  StepParts parts{shape, *dense, *experts, *cache, grouping, {}};
  std::vector<float> embedded(static_cast<size_t>(rows * shape.hidden));
  ASSERT_TRUE(weights->Embed(ids, embedded).has_value());
  const PageId page{0};
  SequenceRows sequence{.first_row = 0,
                        .rows = rows,
                        .first_position = 0,
                        .pages = {&page, 1},
                        .mode = AttentionMode::kExpanded};
  ASSERT_TRUE(DecodeStep(parts, {&sequence, 1}, embedded).has_value());
  const auto hidden_view = *dense->Hidden();
  const std::vector<float> hidden(hidden_view.begin(), hidden_view.end());

  // Row t sees its own hidden state and the embedding of token t + 1; the last row has none.
  const auto width = static_cast<size_t>(shape.hidden);
  sequence.rows = rows - 1;
  ASSERT_TRUE(MtpStep(parts, LayerId{shape.layers}, {&sequence, 1}, std::span(embedded).subspan(width),
                      std::span(hidden).first(static_cast<size_t>(rows - 1) * width))
                  .has_value());
  std::vector<int32_t> wanted(static_cast<size_t>(rows - 1));
  for (int32_t t = 0; t < rows - 1; ++t) wanted[static_cast<size_t>(t)] = t;
  const auto logits = dense->MtpHead(LayerId{shape.layers}, wanted);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  EXPECT_LE(RelativeError(*logits, golden.Floats("mtp_logits")), 1e-5);
}

}  // namespace
}  // namespace moraine
