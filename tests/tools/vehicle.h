/*
 * A vehicle as its backend tells of it: pushes once in a while, answers diagnostic commands.
 *
 * The content is made up but has the shape and size of the real thing: signals most of the time,
 * faults that come and go, and answers after ISO 14229 (service + 0x40, or 7F SERVICE CODE). Pure:
 * time comes in, JSON text goes out.
 */
#ifndef VINHUB_TOOLS_VEHICLE_H
#define VINHUB_TOOLS_VEHICLE_H

#include <stddef.h>
#include <stdint.h>

#include "common/rng.h"

struct vehicle {
    char vin[129];
    struct rng rng;
    uint64_t pushes; /* pushed so far; the next one's number is one more */
    double speed_kmh, odometer_km, charge_percent, coolant_c;
    unsigned session;      /* diagnostic session, 1: default */
    unsigned active_fault; /* row of the fault table + 1, 0: none */
};

/* The same vin always makes the same vehicle. A longer vin than fits is cut. */
void vehicle_init(struct vehicle *vehicle, const char *vin);

/* The next push, JSON text, to be freed by the caller; NULL when out of memory. */
char *vehicle_push(struct vehicle *vehicle, uint64_t now_ms);
/* The next push of the numbered kind: {"seq":N,"vin":V,"timestamp":MS,"pad":"xxx"}, padded to size
 * bytes where that is more. */
char *vehicle_numbered_push(struct vehicle *vehicle, uint64_t now_ms, size_t size);
/* The answer to a command such as {"functionID":"123","command":"10"}, to be freed by the caller.
 * NULL where the text is no command. */
char *vehicle_answer(struct vehicle *vehicle, const char *text, size_t len, uint64_t now_ms);

#endif
