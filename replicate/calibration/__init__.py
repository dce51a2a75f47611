"""How often the rules err: verdict rates on synthetic landscapes whose truth is known."""
