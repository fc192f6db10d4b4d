"""Airports, airlines and planes by words; weather and flights by any of their columns."""

from tailrace import SearchIndex

airlines = SearchIndex("airlines", record="airlines", text=("name",))
airports = SearchIndex("airports", record="airports", text=("name",))
planes = SearchIndex("planes", record="planes", text=("manufacturer", "model"))
weather = SearchIndex("weather", record="weather")
flights = SearchIndex("flights", record="flights")
