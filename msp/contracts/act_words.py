"""The words of an act in the client's language. Pure; a test checks that no word is missing in either."""

LOCALES = ("en", "ru")

#: key -> (English, Russian)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Acceptance act", "Акт выполненных работ"),
    "number": ("No.", "№"),
    "dated": ("of", "от"),
    "provider": ("Provider", "Исполнитель"),
    "client": ("Client", "Заказчик"),
    "contract": ("Contract", "Договор"),
    "period": ("Period", "Период"),
    "works": ("Works and services", "Работы и услуги"),
    "line": ("Line", "Строка"),
    "date": ("Date", "Дата"),
    "what": ("What, and why it costs this", "Что сделано и почему столько стоит"),
    "ticket": ("Ticket", "Заявка"),
    "worked": ("Worked, min", "Работа, мин"),
    "billed": ("Billed, min", "К оплате, мин"),
    "prepaid": ("Prepaid, min", "Из предоплаты, мин"),
    "amount": ("Amount", "Сумма"),
    "currency": ("Currency", "Валюта"),
    "vat": ("VAT", "НДС"),
    "vat_rate": ("VAT rate", "Ставка НДС"),
    "no_vat": ("no VAT", "без НДС"),
    "evidence": ("Evidence", "Доказательство"),
    "net": ("Total without VAT", "Итого без НДС"),
    "vat_of": ("VAT {rate} of {net}", "НДС {rate} от {net}"),
    "without_vat": ("VAT is not charged.", "НДС не облагается."),
    "inclusive": ("Amounts of the lines include VAT.", "Суммы строк включают НДС."),
    "gross": ("To pay", "К оплате"),
    "blocks": ("Prepaid hours", "Предоплаченные часы"),
    "before": ("Before the period", "На начало периода"),
    "bought": ("Bought", "Приобретено"),
    "used": ("Used", "Израсходовано"),
    "expired": ("Expired", "Сгорело"),
    "after": ("After the period", "На конец периода"),
    "annex": ("Annex: tickets of the period", "Приложение: заявки за период"),
    "no_tickets": ("No tickets in this period.", "Заявок за период нет."),
    "subject": ("Subject", "Тема"),
    "priority": ("Priority", "Приоритет"),
    "opened": ("Opened", "Открыта"),
    "resolved": ("Resolved", "Решена"),
    "first_response": ("First response", "Первая реакция"),
    "resolution": ("Resolution", "Решение"),
    "credits": ("Service credits", "Снижение платы за нарушение нормативов"),
    "attainment": ("Promises kept", "Соблюдено нормативов"),
    "credit": ("Credit", "Снижение платы"),
    "credit_note": (
        "A credit is paid as a line of its own in a later act.",
        "Снижение платы учитывается отдельной строкой в одном из следующих актов.",
    ),
    "credit_step": ("{kept} of {counted}, below {below} %", "{kept} из {counted}, ниже {below} %"),
    "credit_reached": ("{kept} of {counted}", "{kept} из {counted}"),
    "signature": ("Signature, name, date", "Подпись, ФИО, дата"),
    "accepted": (
        "The works are done in full and on time; the client accepts them, unless something else is written here.",
        "Работы выполнены полностью и в срок; заказчик принимает их, если здесь не указано иное.",
    ),
    "hours": ("{hours} h {minutes} min", "{hours} ч {minutes} мин"),
    "page": ("Page", "Страница"),
    # why a line costs what it does
    "of_clause": ("Clause {clause}, {name}", "Пункт {clause}, {name}"),
    "rounded_up": (
        "{minutes} min worked, rounded up to {billed} min (step {increment} min)",
        "отработано {minutes} мин, округлено вверх до {billed} мин (шаг {increment} мин)",
    ),
    "rounded_least": (
        "{minutes} min worked, rounded up to {billed} min (step {increment} min, at least {minimum} min)",
        "отработано {minutes} мин, округлено вверх до {billed} мин (шаг {increment} мин, не менее {minimum} мин)",
    ),
    "at_rate": ("{rate} {currency} an hour", "{rate} {currency} в час"),
    "tariff": (
        "tariff “{tariff}”: {minutes} min, {amount} {currency}",
        "тариф «{tariff}»: {minutes} мин, {amount} {currency}",
    ),
    "ordinary": ("ordinary", "обычный"),
    "of_prepaid": (
        "{prepaid} min prepaid, {over} min beyond at {rate} {currency} an hour",
        "{prepaid} мин из предоплаты, {over} мин сверх неё по {rate} {currency} в час",
    ),
    "of_fee": ("beyond the monthly fee", "сверх ежемесячной платы"),
    "included": ("included in the fee", "входит в плату"),
    "per_ticket": ("price of the ticket", "цена заявки"),
    "ticket_billed": ("the ticket is billed already", "заявка уже оплачена"),
    "carried": ("carried over from {day}", "перенесено с {day}"),
    "call_out_fee": ("call-out fee", "плата за выезд"),
    "monthly_fee": ("monthly fee {price} {currency}", "ежемесячная плата {price} {currency}"),
    "devices": (
        "{quantity} devices at {price} {currency}: {names}",
        "устройств: {quantity}, по {price} {currency}: {names}",
    ),
    "people": ("{quantity} people at {price} {currency}", "пользователей: {quantity}, по {price} {currency}"),
    "days": ("days {first} to {last} of the month", "с {first} по {last} число месяца"),
    # how a promise ended
    "kept": ("kept", "соблюдён"),
    "late": ("late", "нарушен"),
    "running": ("still open", "ещё в работе"),
    "none": ("not promised", "не установлен"),
    "not_counted": ("not counted", "не учитывается"),
}  # fmt: skip


def word(key: str, locale: str, **values: object) -> str:
    """Return a word or sentence; English for a language that is not here."""
    text = WORDS[key][LOCALES.index(locale) if locale in LOCALES else 0]
    return text.format(**values) if values else text


def table(locale: str) -> dict[str, str]:
    """Return every plain word by key, for templates."""
    return {key: word(key, locale) for key in WORDS}
