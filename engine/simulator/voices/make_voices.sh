#!/bin/sh
# Makes the speech of the simulators, once; the .wav files beside this script are its product and are shipped.
# Needs espeak-ng and sox. Every file: 8000 Hz, mono, signed 16 bit, silence trimmed, about -20 dBFS RMS, faded at both ends.
# The words stand again in voices.py: change both together (a test compares the names and the durations).
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# say NAME VOICE PITCH WORDS_PER_MINUTE WORDS
say() {
    espeak-ng -v "$2" -p "$3" -s "$4" -w "$work/raw.wav" "$5"
    # -D: no dither, so that the same espeak-ng makes the same bytes. Telephone band 200 to 3400 Hz.
    sox -D "$work/raw.wav" -r 8000 -c 1 -b 16 "$work/band.wav" gain -6 rate -h sinc 200-3400 \
        silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse
    rms=$(sox "$work/band.wav" -n stats 2>&1 | awk '/^RMS lev dB/ {print $4}')
    # The limiter takes about 1.4 dB off the peaks' share of the power: aim that much higher.
    gain=$(awk -v rms="$rms" 'BEGIN {printf "%.2f", -18.6 - rms}')
    sox -D "$work/band.wav" -c 1 -b 16 "$1.wav" gain -l "$gain" fade t 0.005 -0 0.005
}

caller() { say "$1" en-us+f3 55 165 "$2"; }
agent() { say "$1" en-gb+m3 40 160 "$2"; }

# No commas: a pause of 200 ms would end the turn for a service with its default settings.
caller caller_question "Hello can you tell me where my order four seven one one is?"
caller caller_bargein "Wait stop that is enough thanks."
caller caller_goodbye "Thank you goodbye."

agent agent_greeting "Hello, and welcome to the parcel desk. How can I help you today?"
agent agent_tool_wait "One moment, I am looking that up for you."
agent agent_order "Your order, four seven one one, left our warehouse on Tuesday. It is on a van in your town now, \
so please expect it between two and four o'clock this afternoon."
agent agent_sorry "Sorry, of course. Is there anything else?"
agent agent_goodbye "You are welcome. Thank you for calling, and goodbye."

# One caller, start to end, for a call whose other side is unknown: question, pause, barge-in, pause, goodbye, pause.
silence() { sox -D -n -r 8000 -c 1 -b 16 "$work/silence_$1.wav" trim 0 "$1"; }
silence 0.5
silence 1.0
silence 2.0
silence 3.0
sox -D "$work/silence_0.5.wav" caller_question.wav "$work/silence_3.0.wav" caller_bargein.wav "$work/silence_2.0.wav" \
    caller_goodbye.wav "$work/silence_1.0.wav" caller.wav
