/*
 * Messages between nodes, compared with the bytes of 0.1.0 (da88db6), since two versions may run in
 * one cluster. Fields after the known ones are a newer version's and ignored.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/node_messages.h"

/* clang-format off */
static const uint8_t join_bytes[] = {
    0x9d, 0x01, 0x01, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x07, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x15, 0x03, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x69,
    0x90, 0xa0, 0xa0, 0x90,
};
static const uint8_t leave_bytes[] = {
    0x9d, 0x01, 0x02, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x08, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t commands_bytes[] = {
    0x9d, 0x01, 0x03, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x09, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x07, 0x00, 0x00, 0xa0, 0xa0, 0x92, 0x97, 0x01, 0x16, 0x00,
    0x00, 0x02, 0xa0, 0xc4, 0x03, 0x00, 0x01, 0xff, 0x97, 0x01, 0x18, 0x09, 0x16, 0x01,
    0xa2, 0x63, 0x31, 0xc4, 0x02, 0x67, 0x6f,
};
static const uint8_t joined_bytes[] = {
    0x9d, 0x01, 0x04, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x07, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0xcd, 0x01, 0x2c, 0x02, 0x01, 0xa7, 0x72, 0x65, 0x66, 0x75,
    0x73, 0x65, 0x64, 0xab, 0x77, 0x73, 0x3a, 0x2f, 0x2f, 0x62, 0x2f, 0x73, 0x2f, 0x76,
    0x31, 0x90,
};
static const uint8_t left_bytes[] = {
    0x9d, 0x01, 0x05, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x08, 0x00, 0x00, 0x00, 0x00, 0xa0,
    0xa0, 0x90,
};
static const uint8_t not_owner_bytes[] = {
    0x9d, 0x01, 0x06, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t confirm_bytes[] = {
    0x9d, 0x01, 0x07, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x18, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t handback_bytes[] = {
    0x9d, 0x01, 0x08, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x18, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x09, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t status_bytes[] = {
    0x9d, 0x01, 0x09, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x02, 0xa0, 0xa0, 0x90,
};
static const uint8_t offer_bytes[] = {
    0x9d, 0x01, 0x0a, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xab, 0x77, 0x73, 0x3a, 0x2f, 0x2f,
    0x62, 0x2f, 0x73, 0x2f, 0x76, 0x31, 0x90,
};
static const uint8_t accept_bytes[] = {
    0x9d, 0x01, 0x0b, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t decline_bytes[] = {
    0x9d, 0x01, 0x0c, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t take_bytes[] = {
    0x9d, 0x01, 0x0d, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc9, 0x00, 0x00, 0x00, 0xa0, 0xab, 0x77, 0x73, 0x3a, 0x2f, 0x2f,
    0x62, 0x2f, 0x73, 0x2f, 0x76, 0x31, 0x92, 0x97, 0x02, 0x07, 0xcf, 0x00, 0x00, 0x01,
    0x8b, 0xcf, 0xe5, 0x68, 0x32, 0x18, 0x00, 0xa2, 0x6e, 0x32, 0xc4, 0x00, 0x97, 0x03,
    0x00, 0x09, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x6b, 0x15, 0x00, 0xa2, 0x63,
    0x31, 0xc4, 0x00,
};
static const uint8_t taken_bytes[] = {
    0x9d, 0x01, 0x0e, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc9, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t sends_bytes[] = {
    0x9d, 0x01, 0x13, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa0,
    0xa0, 0x91, 0x97, 0x03, 0x00, 0x09, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x6b,
    0x15, 0x00, 0xa2, 0x63, 0x31, 0xc4, 0x00,
};
static const uint8_t publish_bytes[] = {
    0x9d, 0x01, 0x0f, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x05, 0x00, 0x00, 0x00, 0x00, 0xa0,
    0xa0, 0x91, 0x97, 0x00, 0xcd, 0x01, 0x2d, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf,
    0xe5, 0x6b, 0xe7, 0x01, 0xa0, 0xc4, 0x07, 0x7b, 0x22, 0x61, 0x22, 0x3a, 0x31, 0x7d,
};
static const uint8_t published_bytes[] = {
    0x9d, 0x01, 0x10, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x05, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0xcd, 0x01, 0x2d, 0x00, 0xcc, 0xc8, 0xa0, 0xa0, 0x90,
};
static const uint8_t close_bytes[] = {
    0x9d, 0x01, 0x11, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa0,
    0xa0, 0x90,
};
static const uint8_t drain_bytes[] = {
    0x9d, 0x01, 0x12, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa0,
    0xa0, 0x90,
};
static const uint8_t grant_bytes[] = {
    0x9d, 0x01, 0x14, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf,
    0xe5, 0x69, 0xc8, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x69, 0xc9, 0x00, 0x00,
    0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t push_bytes[] = {
    0x9d, 0x01, 0x15, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b,
    0xcf, 0xe5, 0x69, 0xc8, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x92, 0x97, 0x00, 0xcd, 0x01,
    0x2d, 0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x6b, 0xe7, 0x01, 0xa0, 0xc4,
    0x07, 0x7b, 0x22, 0x61, 0x22, 0x3a, 0x31, 0x7d, 0x97, 0x00, 0xcd, 0x01, 0x2e, 0x00,
    0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x6b, 0xe8, 0x02, 0xa0, 0xc4, 0x01, 0x00,
};
static const uint8_t hello_bytes[] = {
    0x9d, 0x01, 0x1f, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0xcf, 0xfe, 0xdc, 0xba, 0x98, 0x76,
    0x54, 0x32, 0x10, 0x00, 0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
static const uint8_t probe_bytes[] = {
    0x9d, 0x01, 0x1e, 0xa6, 0x73, 0x76, 0x63, 0x3a, 0x76, 0x31, 0xa2, 0x6e, 0x31, 0xcf,
    0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0xce, 0x00, 0x01, 0xe2, 0x40, 0x00,
    0x00, 0x00, 0x00, 0xa0, 0xa0, 0x90,
};
/* clang-format on */

#define EPOCH UINT64_C(1700000000456)

static struct envelope_item *kept_items;

static struct envelope read_golden(const uint8_t *bytes, size_t len, unsigned type)
{
    struct envelope envelope;
    kept_items = NULL;
    assert_int_equal(envelope_decode(bytes, len, &envelope, &kept_items), STATUS_OK);
    assert_int_equal(envelope.type, type);
    return envelope;
}

static void assert_golden(struct envelope envelope, const uint8_t *bytes, size_t len)
{
    uint8_t *made;
    size_t made_len;
    envelope.session = slice_of("svc:v1");
    envelope.node = slice_of("n1");
    envelope.life = UINT64_C(1700000000123);
    assert_int_equal(envelope_encode(&envelope, &made, &made_len), STATUS_OK);
    assert_int_equal(made_len, len);
    assert_memory_equal(made, bytes, len);
    free(made);
}

static void assert_text(struct slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    if (slice.len)
        assert_memory_equal(slice.at, text, slice.len);
}

/* Decodes the golden bytes, and encodes the result into the same bytes again. */
#define READ(name, TYPE) \
    struct envelope envelope = read_golden(name##_bytes, sizeof(name##_bytes), ENVELOPE_##TYPE)
#define SAME(name, message)                                                       \
    assert_golden(name##_encode(&(message)), name##_bytes, sizeof(name##_bytes)); \
    free(kept_items)

static void messages_of_members_have_their_known_bytes(void **state)
{
    (void)state;
    {
        READ(join, JOIN);
        const struct join_message m = join_decode(&envelope);
        assert_true(m.number == 7 && m.clients == 3 && m.seen_epoch == EPOCH &&
                    m.named_epoch == UINT64_C(1700000000400) && m.confirmed == 21);
        assert_int_equal(m.requests.len, 0);
        SAME(join, m);
    }
    {
        READ(leave, LEAVE);
        const struct leave_message m = leave_decode(&envelope);
        assert_true(m.number == 8 && m.epoch == EPOCH);
        SAME(leave, m);
    }
    {
        READ(commands, COMMANDS);
        const struct commands_message m = commands_decode(&envelope);
        assert_true(m.epoch == EPOCH && m.number == 9 && m.joined_number == 7);
        assert_int_equal(m.commands.len, 2);
        struct command_entry raw, send;
        assert_true(command_entry_of(&m.commands.at[0], &raw));
        assert_true(raw.number == 22 && raw.after == 0 && raw.send_id == 0 &&
                    raw.opcode == OPCODE_BINARY && raw.payload.len == 3);
        assert_true(command_entry_of(&m.commands.at[1], &send));
        assert_true(send.number == 24 && send.after == 22 && send.send_id == 9 &&
                    send.opcode == OPCODE_TEXT);
        assert_text(send.sender, "c1");
        assert_text(send.payload, "go");
        const struct envelope_item items[] = {command_item(&raw), command_item(&send)};
        struct commands_message again = m;
        again.commands = (struct message_items){items, 2};
        SAME(commands, again);
    }
}

static void messages_of_owners_have_their_known_bytes(void **state)
{
    (void)state;
    {
        READ(joined, JOINED);
        const struct joined_message m = joined_decode(&envelope);
        assert_true(m.number == 7 && m.at.epoch == EPOCH && m.at.offset == 300 &&
                    m.on_the_way == 2 && m.status == 1);
        assert_text(m.reason, "refused");
        assert_text(m.url, "ws://b/s/v1");
        SAME(joined, m);
    }
    { /* 0.1.0 does not know it */
        const struct ended_message m = {{EPOCH, 300}};
        const struct envelope envelope = ended_encode(&m);
        assert_int_equal(envelope.type, ENVELOPE_ENDED);
        assert_true(ended_decode(&envelope).last.epoch == EPOCH &&
                    ended_decode(&envelope).last.offset == 300);
    }
    {
        READ(left, LEFT);
        const struct left_message m = left_decode(&envelope);
        assert_true(m.number == 8);
        SAME(left, m);
    }
    {
        READ(not_owner, NOT_OWNER);
        const struct not_owner_message m = not_owner_decode(&envelope);
        assert_true(m.epoch == EPOCH);
        SAME(not_owner, m);
    }
    {
        READ(confirm, CONFIRM);
        const struct confirm_message m = confirm_decode(&envelope);
        assert_true(m.epoch == EPOCH && m.upto == 24);
        SAME(confirm, m);
    }
    {
        READ(handback, HANDBACK);
        const struct handback_message m = handback_decode(&envelope);
        assert_true(m.epoch == EPOCH && m.from == 24 && m.seen_number == 9);
        SAME(handback, m);
    }
    {
        READ(status, STATUS);
        const struct status_message m = status_decode(&envelope);
        assert_true(m.epoch == EPOCH && m.status == 2 && m.reason.len == 0);
        SAME(status, m);
    }
}

static void messages_of_a_hand_over_have_their_known_bytes(void **state)
{
    (void)state;
    {
        READ(offer, OFFER);
        const struct offer_message m = offer_decode(&envelope);
        assert_true(m.epoch == EPOCH);
        assert_text(m.url, "ws://b/s/v1");
        SAME(offer, m);
    }
    {
        READ(accept, ACCEPT);
        const struct answer_message m = answer_decode(&envelope);
        assert_true(m.accepts && m.epoch == EPOCH);
        assert_golden(answer_encode(&m), accept_bytes, sizeof(accept_bytes));
    }
    {
        READ(decline, DECLINE);
        const struct answer_message m = answer_decode(&envelope);
        assert_true(!m.accepts && m.epoch == EPOCH);
        assert_golden(answer_encode(&m), decline_bytes, sizeof(decline_bytes));
    }
    {
        READ(take, TAKE);
        const struct take_message m = take_decode(&envelope);
        assert_true(m.epoch == EPOCH + 1 && m.items.len == 2);
        struct member_entry member;
        struct send_entry send;
        assert_true(member_entry_of(&m.items.at[0], &member));
        assert_false(send_entry_of(&m.items.at[0], &send));
        assert_true(send_entry_of(&m.items.at[1], &send));
        assert_text(member.node, "n2");
        assert_true(member.life == UINT64_C(1700000000050) && member.join_number == 7 &&
                    member.sent == 24);
        assert_text(send.client, "c1");
        assert_true(send.send_id == 9 && send.unix_ms == UINT64_C(1700000000789));
        const struct envelope_item items[] = {member_item(&member), send_item(&send)};
        struct take_message again = m;
        again.items = (struct message_items){items, 2};
        SAME(take, again);
    }
    {
        READ(taken, TAKEN);
        const struct taken_message m = taken_decode(&envelope);
        assert_true(m.epoch == EPOCH + 1);
        SAME(taken, m);
    }
}

static void messages_to_all_and_of_operators_have_their_known_bytes(void **state)
{
    (void)state;
    {
        READ(sends, SENDS);
        const struct sends_message m = sends_decode(&envelope);
        assert_int_equal(m.sends.len, 1);
        SAME(sends, m);
    }
    {
        READ(publish, PUBLISH);
        const struct publish_message m = publish_decode(&envelope);
        assert_true(m.number == 5 && m.publications.len == 1);
        SAME(publish, m);
    }
    {
        READ(published, PUBLISHED);
        const struct published_message m = published_decode(&envelope);
        assert_true(m.number == 5 && m.at.epoch == EPOCH && m.at.offset == 301 &&
                    m.http_status == 200);
        SAME(published, m);
    }
    {
        READ(hello, HELLO);
        const struct hello_message m = hello_decode(&envelope);
        assert_true(m.process == UINT64_C(0xfedcba9876543210));
        SAME(hello, m);
    }
    {
        READ(probe, PROBE);
        const struct probe_message m = probe_decode(&envelope);
        assert_true(m.sent_ms == 123456);
        SAME(probe, m);
    }
    assert_golden(close_encode(), close_bytes, sizeof(close_bytes));
    assert_golden(drain_encode(), drain_bytes, sizeof(drain_bytes));
}

static void messages_on_the_push_channel_have_their_known_bytes(void **state)
{
    (void)state;
    {
        READ(grant, GRANT);
        const struct grant_message m = grant_decode(&envelope);
        assert_true(m.epoch == EPOCH + 1 && m.from_epoch == EPOCH);
        SAME(grant, m);
    }
    {
        READ(push, PUSH);
        const struct push_message m = push_decode(&envelope);
        assert_true(m.epoch == EPOCH && m.publications.len == 2);
        struct publication_entry first, second;
        assert_true(publication_entry_of(&m.publications.at[0], &first));
        assert_true(publication_entry_of(&m.publications.at[1], &second));
        assert_true(first.offset == 301 && first.time_ms == UINT64_C(1700000000999) &&
                    first.opcode == OPCODE_TEXT);
        assert_text(first.payload, "{\"a\":1}");
        assert_true(second.offset == 302 && second.opcode == OPCODE_BINARY &&
                    second.payload.len == 1);
        const struct envelope_item items[] = {publication_item(&first), publication_item(&second)};
        struct push_message again = m;
        again.publications = (struct message_items){items, 2};
        SAME(push, again);
    }
}

static void items_that_0_1_0_does_not_know_travel_too(void **state)
{
    (void)state;
    const struct request_entry request = {slice_of("/u/v1?svc&lang=de"), true};
    const struct envelope_item item = request_item(&request);
    const struct join_message join = {.number = 1, .requests = {&item, 1}};
    const struct envelope envelope = join_encode(&join);
    uint8_t *bytes;
    size_t len;
    assert_int_equal(envelope_encode(&envelope, &bytes, &len), STATUS_OK);
    const struct envelope got = read_golden(bytes, len, ENVELOPE_JOIN);
    struct request_entry entry;
    struct command_entry command;
    assert_false(command_entry_of(&got.items[0], &command)); /* an older node ignores it */
    assert_true(request_entry_of(&got.items[0], &entry));
    assert_text(entry.text, "/u/v1?svc&lang=de");
    assert_true(entry.attended);
    free(kept_items);
    free(bytes);
}

static void ids_of_clients_travel_both_ways(void **state)
{
    (void)state;
    const struct client_id_entry id = {slice_of("0123abcd"), 12};
    const struct envelope_item item = client_id_item(&id);
    const struct id_taken_message sent = {EPOCH, slice_of("n2"), {&item, 1}};
    const struct take_id_message asked = {EPOCH, {&item, 1}};
    const struct envelope envelopes[] = {id_taken_encode(&sent), take_id_encode(&asked)};
    for (size_t i = 0; i < 2; i++) {
        uint8_t *bytes;
        size_t len;
        assert_int_equal(envelope_encode(&envelopes[i], &bytes, &len), STATUS_OK);
        const struct envelope got = read_golden(bytes, len,
                                                i ? ENVELOPE_TAKE_ID : ENVELOPE_ID_TAKEN);
        const struct id_taken_message taken = id_taken_decode(&got);
        const struct take_id_message take = take_id_decode(&got);
        struct client_id_entry entry;
        assert_true((i ? take.epoch : taken.epoch) == EPOCH);
        assert_text(taken.by, i ? "" : "n2");
        assert_int_equal(i ? take.ids.len : taken.ids.len, 1);
        assert_true(client_id_entry_of(&got.items[0], &entry));
        assert_text(entry.client, "0123abcd");
        assert_true(entry.number == 12);
        free(kept_items);
        free(bytes);
    }
}

static void revocations_and_what_they_closed_travel(void **state)
{
    (void)state;
    const struct revoke_message revoked = {7, slice_of("sub:u v"), 1700003600, 1700000001};
    const struct counted_message counted = {7, 100000};
    const struct envelope envelopes[] = {revoke_encode(&revoked), counted_encode(&counted)};
    static const enum envelope_type types[] = {ENVELOPE_REVOKE, ENVELOPE_COUNTED};
    for (size_t i = 0; i < 2; i++) {
        uint8_t *bytes;
        size_t len;
        assert_int_equal(envelope_encode(&envelopes[i], &bytes, &len), STATUS_OK);
        const struct envelope got = read_golden(bytes, len, types[i]);
        const struct revoke_message said = revoke_decode(&got);
        const struct counted_message answered = counted_decode(&got);
        assert_true(said.number == 7 && answered.number == 7);
        assert_text(said.name, i ? "" : "sub:u v");
        assert_true(i || (said.until_s == 1700003600 && said.issued_before_s == 1700000001));
        assert_true(!i || answered.closed == 100000);
        free(kept_items);
        free(bytes);
    }
}

static struct envelope travel(const struct envelope *sent, enum envelope_type type, uint8_t **bytes)
{
    size_t len;
    assert_int_equal(envelope_encode(sent, bytes, &len), STATUS_OK);
    return read_golden(*bytes, len, type);
}

static void who_watches_travels_both_ways(void **state)
{
    (void)state;
    const struct watcher_entry sent = {slice_of("\xc3\xbc"), 3};
    const struct envelope_item item = watcher_item(&sent);
    const struct roster_message roster = {EPOCH, 7, 6, true, 5, {&item, 1}};
    const struct presence_message presence = {EPOCH, 8, 7, 4, {&item, 1}};
    struct watcher_entry entry;
    uint8_t *bytes;
    struct envelope envelope = roster_encode(&roster);
    struct envelope got = travel(&envelope, ENVELOPE_ROSTER, &bytes);
    const struct roster_message r = roster_decode(&got);
    assert_true(r.epoch == EPOCH && r.number == 7 && r.seen == 6 && r.wants_word && r.more == 5);
    assert_true(r.watchers.len == 1 && watcher_entry_of(r.watchers.at, &entry));
    assert_text(entry.user, "\xc3\xbc");
    assert_true(entry.clients == 3);
    free(kept_items);
    free(bytes);
    envelope = presence_encode(&presence);
    got = travel(&envelope, ENVELOPE_PRESENCE, &bytes);
    const struct presence_message p = presence_decode(&got);
    assert_true(p.epoch == EPOCH && p.number == 8 && p.heard == 7 && p.more == 4);
    assert_true(p.watchers.len == 1);
    free(kept_items);
    free(bytes);
}

static void what_operators_ask_about_clients_travels(void **state)
{
    (void)state;
    const struct envelope_item filter = filter_item(
        &(struct filter_entry){slice_of("user"), slice_of("u v")});
    const struct clients_message asked = {7, 100, slice_of("n2"), 9, slice_of("why"), {&filter, 1}};
    struct envelope_item items[2];
    const struct client_entry client = {.id = slice_of("c9"),
                                        .user = slice_of("u"),
                                        .session = slice_of("s:k"),
                                        .place = slice_of("::1 raw"),
                                        .since_ms = 1700000000000,
                                        .subscriptions = 2,
                                        .received = 3,
                                        .sent = 4,
                                        .queued_bytes = 5,
                                        .slot = 6};
    client_items(&client, items);
    const struct client_rows_message rows = {7, true, 10, {items, 2}};
    struct filter_entry entry;
    struct client_entry row;
    uint8_t *bytes;
    struct envelope envelope = clients_encode(&asked);
    struct envelope got = travel(&envelope, ENVELOPE_CLIENTS, &bytes);
    const struct clients_message m = clients_decode(&got);
    assert_true(m.number == 7 && m.limit == 100 && m.from_slot == 9 && m.filters.len == 1);
    assert_text(m.from_node, "n2");
    assert_text(m.reason, "why");
    assert_true(filter_entry_of(m.filters.at, &entry));
    assert_text(entry.value, "u v");
    free(kept_items);
    free(bytes);
    envelope = client_rows_encode(&rows);
    got = travel(&envelope, ENVELOPE_CLIENT_ROWS, &bytes);
    const struct client_rows_message r = client_rows_decode(&got);
    assert_true(r.number == 7 && r.more && r.next_slot == 10 && r.rows.len == 2);
    assert_true(client_entry_of(r.rows.at, &row));
    assert_text(row.place, "::1 raw");
    assert_text(row.session, "s:k");
    assert_true(row.since_ms == 1700000000000 && row.subscriptions == 2 && row.received == 3 &&
                row.sent == 4 && row.queued_bytes == 5 && row.slot == 6);
    free(kept_items);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_members_have_their_known_bytes),
        cmocka_unit_test(messages_of_owners_have_their_known_bytes),
        cmocka_unit_test(messages_of_a_hand_over_have_their_known_bytes),
        cmocka_unit_test(messages_to_all_and_of_operators_have_their_known_bytes),
        cmocka_unit_test(messages_on_the_push_channel_have_their_known_bytes),
        cmocka_unit_test(ids_of_clients_travel_both_ways),
        cmocka_unit_test(revocations_and_what_they_closed_travel),
        cmocka_unit_test(who_watches_travels_both_ways),
        cmocka_unit_test(what_operators_ask_about_clients_travels),
        cmocka_unit_test(items_that_0_1_0_does_not_know_travel_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
