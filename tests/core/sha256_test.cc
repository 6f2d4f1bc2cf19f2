// runtime/core/sha256.h against FIPS 180-4's examples.
#include "runtime/core/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace moraine {
namespace {

TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256Hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Around the block's end, in pieces as at once.
TEST(Sha256, PiecesMakeTheSame) {
  for (size_t length = 50; length < 135; ++length) {
    const std::string text(length, 'x');
    const auto bytes = std::as_bytes(std::span(text));
    Sha256 pieces;
    for (size_t at = 0; at < length; at += 7) pieces.Add(bytes.subspan(at, std::min<size_t>(7, length - at)));
    EXPECT_EQ(Hex(pieces.Finish()), Sha256Hex(text)) << length;
  }
}

TEST(Sha256, FieldsDoNotRunTogether) {
  EXPECT_NE(Sha256().AddField("ab").AddField("c").Finish(), Sha256().AddField("a").AddField("bc").Finish());
  EXPECT_NE(Sha256().AddField(1).AddField(2).Finish(), Sha256().AddField(2).AddField(1).Finish());
}

}  // namespace
}  // namespace moraine
