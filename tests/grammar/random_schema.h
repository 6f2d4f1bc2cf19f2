// Random schemas of the subset, and random documents that satisfy them.
#pragma once

#include <nlohmann/json.hpp>
#include <random>

namespace moraine::test {

using Random = std::mt19937_64;

/// Every schema can be satisfied by a document of few levels, and no two branches of its oneOf at once.
nlohmann::ordered_json RandomSchema(Random* random);

/// A document that satisfies it, members in the order of the schema.
nlohmann::ordered_json RandomDocument(const nlohmann::ordered_json& schema,
                                      const nlohmann::ordered_json& root, bool strict, Random* random);

/// A number from 0 to below.
size_t Pick(Random* random, size_t below);

}  // namespace moraine::test
