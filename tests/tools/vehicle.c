#include "vehicle.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

struct fault {
    const char *code, *ecu, *text;
};

static const struct fault faults[] = {
    {"P0301", "EMS", "Cylinder 1 misfire detected"},
    {"P0420", "EMS", "Catalyst system efficiency below threshold, bank 1"},
    {"P0AA6", "BMS", "Hybrid battery voltage system isolation fault"},
    {"C0035", "ESP", "Left front wheel speed sensor circuit"},
    {"B1318", "BCM", "Battery voltage low"},
    {"U0100", "GW", "Lost communication with engine control module"},
};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

/* What a service answers after its own number + 0x40. */
struct diagnostic_service {
    unsigned id;
    const char *answer;
    bool with_vin; /* the vehicle's vin follows */
};

static const struct diagnostic_service services[] = {
    {0x10, " 01 00 32 01 F4", false},    /* DiagnosticSessionControl: P2 50 ms, P2* 5 s */
    {0x11, " 01", false},                /* ECUReset */
    {0x14, "", false},                   /* ClearDiagnosticInformation */
    {0x19, " 02 FF 03 01 00 2F", false}, /* ReadDTCInformation */
    {0x22, " F1 90", true},              /* ReadDataByIdentifier: the vin */
    {0x27, " 01 3A 7C 91 0E", false},    /* SecurityAccess: a seed */
    {0x2E, " F1 98", false},             /* WriteDataByIdentifier */
    {0x31, " 01 02 03 00", false},       /* RoutineControl */
    {0x3E, " 00", false},                /* TesterPresent */
};
#define SERVICES              (sizeof(services) / sizeof(services[0]))
#define SERVICE_NOT_SUPPORTED 0x11 /* ISO 14229-1 annex A */

static double between(struct rng *rng, double low, double high)
{
    return low + (high - low) * (double)rng_below(rng, 10001) / 10000.0;
}

void vehicle_init(struct vehicle *vehicle, const char *vin)
{
    *vehicle = (struct vehicle){.session = 1};
    snprintf(vehicle->vin, sizeof(vehicle->vin), "%s", vin);
    uint64_t seed = 14695981039346656037u; /* FNV-1a */
    for (const char *at = vehicle->vin; *at != '\0'; at++)
        seed = (seed ^ (unsigned char)*at) * 1099511628211u;
    rng_seed(&vehicle->rng, seed);
    vehicle->speed_kmh = between(&vehicle->rng, 0, 90);
    vehicle->odometer_km = between(&vehicle->rng, 500, 90000);
    vehicle->charge_percent = between(&vehicle->rng, 30, 95);
    vehicle->coolant_c = between(&vehicle->rng, 60, 90);
}

/* Drives on for about a second. */
static void drive(struct vehicle *vehicle)
{
    vehicle->speed_kmh = fmin(130, fmax(0, vehicle->speed_kmh + between(&vehicle->rng, -6, 6)));
    vehicle->odometer_km += vehicle->speed_kmh / 3600;
    vehicle->charge_percent = fmax(5, vehicle->charge_percent - vehicle->speed_kmh / 20000);
    vehicle->coolant_c = fmin(105,
                              fmax(40, vehicle->coolant_c + between(&vehicle->rng, -0.5, 0.5)));
}

static json_t *signal(const char *name, double value, const char *unit)
{
    return json_pack("{s:s, s:f, s:s}", "name", name, "value", round(value * 10) / 10, "unit",
                     unit);
}

static json_t *signals_of(struct vehicle *vehicle)
{
    return json_pack("[o, o, o, o]", signal("VehicleSpeed", vehicle->speed_kmh, "km/h"),
                     signal("Odometer", vehicle->odometer_km, "km"),
                     signal("BatteryStateOfCharge", vehicle->charge_percent, "%"),
                     signal("CoolantTemperature", vehicle->coolant_c, "degC"));
}

static json_t *faults_of(struct vehicle *vehicle)
{
    bool clears = vehicle->active_fault != 0;
    unsigned row = clears ? vehicle->active_fault - 1 : (unsigned)rng_below(&vehicle->rng, FAULTS);
    vehicle->active_fault = clears ? 0 : row + 1;
    return json_pack("[{s:s, s:s, s:s, s:s}]", "code", faults[row].code, "ecu", faults[row].ecu,
                     "status", clears ? "cleared" : "active", "description", faults[row].text);
}

static char *print_push(const struct vehicle *vehicle, const char *function_id, const char *type,
                        uint64_t now_ms, json_t *content)
{
    json_t *push = json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "functionID", function_id, "type",
                             type, "vin", vehicle->vin, "seq", (json_int_t)vehicle->pushes,
                             "timestamp", (json_int_t)now_ms, "data", content);
    char *text = push ? json_dumps(push, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(push);
    return text;
}

char *vehicle_push(struct vehicle *vehicle, uint64_t now_ms)
{
    drive(vehicle);
    vehicle->pushes++;
    switch (vehicle->pushes % 10) {
    case 4: return print_push(vehicle, "105", "faults", now_ms, faults_of(vehicle));
    case 8:
        return print_push(vehicle, "123", "diagnosis", now_ms,
                          json_pack("{s:s, s:s, s:i}", "ecu", "BMS", "response", "7E 00", "session",
                                    (int)vehicle->session));
    default: return print_push(vehicle, "201", "signals", now_ms, signals_of(vehicle));
    }
}

/* Like asprintf, but NULL where it fails. */
__attribute__((format(printf, 1, 2))) static char *print(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    return text;
}

char *vehicle_numbered_push(struct vehicle *vehicle, uint64_t now_ms, size_t size)
{
    vehicle->pushes++;
    json_t *vin = json_string(vehicle->vin);
    char *quoted = vin ? json_dumps(vin, JSON_ENCODE_ANY) : NULL;
    json_decref(vin);
    if (!quoted)
        return NULL;
    unsigned long long number = vehicle->pushes, now = now_ms;
    int bare = snprintf(NULL, 0, "{\"seq\":%llu,\"vin\":%s,\"timestamp\":%llu,\"pad\":\"\"}",
                        number, quoted, now);
    size_t pad = bare > 0 && (size_t)bare < size ? size - (size_t)bare : 0;
    char *padding = malloc(pad + 1);
    char *text = NULL;
    if (padding) {
        memset(padding, 'x', pad);
        padding[pad] = '\0';
        text = print("{\"seq\":%llu,\"vin\":%s,\"timestamp\":%llu,\"pad\":\"%s\"}", number, quoted,
                     now, padding);
    }
    free(padding);
    free(quoted);
    return text;
}

static void append_hex(const char *text, char *out, size_t size)
{
    size_t at = strlen(out);
    for (; *text != '\0' && at + 4 <= size; text++)
        at += (size_t)snprintf(out + at, size - at, " %02X", (unsigned)(unsigned char)*text);
}

/* Writes the response bytes of a command, hexadecimal with spaces; true where the answer is
 * positive. */
static bool respond(struct vehicle *vehicle, unsigned service, char *out, size_t size)
{
    if (service == 0x10)
        vehicle->session = 3; /* extended */
    for (size_t i = 0; i < SERVICES; i++) {
        if (services[i].id != service)
            continue;
        snprintf(out, size, "%02X%s", service + 0x40, services[i].answer);
        if (services[i].with_vin)
            append_hex(vehicle->vin, out, size);
        return true;
    }
    snprintf(out, size, "7F %02X %02X", service, (unsigned)SERVICE_NOT_SUPPORTED);
    return false;
}

char *vehicle_answer(struct vehicle *vehicle, const char *text, size_t len, uint64_t now_ms)
{
    json_t *command = json_loadb(text, len, 0, NULL);
    const char *function_id = json_string_value(json_object_get(command, "functionID"));
    const char *code = json_string_value(json_object_get(command, "command"));
    unsigned service = 0;
    char *answer = NULL;
    if (function_id && code && sscanf(code, "%2x", &service) == 1) {
        char response[3 * sizeof(vehicle->vin) + 32];
        bool positive = respond(vehicle, service, response, sizeof(response));
        json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "functionID", function_id,
                                   "type", "answer", "vin", vehicle->vin, "command", code, "result",
                                   positive ? "ok" : "refused", "response", response, "timestamp",
                                   (json_int_t)now_ms);
        answer = object ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
    }
    json_decref(command);
    return answer;
}
